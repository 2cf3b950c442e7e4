//! The commands' way to the server: HTTP, the native API, errors back into what they were.

mod content;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use strongroom_api::native::wire::ErrorBody;
use strongroom_service::kind_of;
use url::Url;

use crate::bootstrap::read_credentials;
use crate::config::data_dir;
use crate::exit::{Exit, Outcome, Stop};

pub(crate) use content::HttpContent;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than the server's own limit for a request, which checks a source that may be slow.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// A stream in which nothing came for so long is cut; a restore asks again and goes on.
const SILENCE_TIMEOUT: Duration = Duration::from_mins(2);

/// Where the server is. `STRONGROOM_ENDPOINT` and `STRONGROOM_TOKEN` say it; without them the
/// data directory of a server on this host does.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClientOptions {
    /// The server's data directory; commands read it when STRONGROOM_ENDPOINT is not set
    /// [env: STRONGROOM_DATA_DIR] [default: ./strongroom-data]
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) data_dir: Option<PathBuf>,
    /// PEM certificates to trust besides the system's, for a server with a certificate of its own
    #[arg(long, value_name = "FILE", global = true, env = "STRONGROOM_SERVER_CA_FILE")]
    server_ca_file: Option<PathBuf>,
}

/// A connection to one server as one caller. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    endpoint: Url,
    token: SecretString,
    project: Option<String>,
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Client {
    pub(crate) fn open(options: &ClientOptions) -> Outcome<Self> {
        let (endpoint, token, project) = match environment("STRONGROOM_ENDPOINT") {
            Some(endpoint) => {
                let token = environment("STRONGROOM_TOKEN").ok_or_else(|| {
                    Stop::usage("STRONGROOM_ENDPOINT is set, STRONGROOM_TOKEN is not")
                        .with_hint("set both (an `openrc` file does), or neither and give --data-dir")
                })?;
                (endpoint, token, environment("STRONGROOM_PROJECT_ID"))
            }
            None => from_data_dir(options)?,
        };
        let endpoint: Url = endpoint.parse().ok().filter(is_http).ok_or_else(|| {
            Stop::usage(format!("the endpoint {endpoint} is no http or https address"))
                .with_hint("give STRONGROOM_ENDPOINT such as https://HOST:8640")
        })?;
        let http = http_client(options)?;
        Ok(Self { http, endpoint, token: token.into(), project })
    }

    pub(crate) fn endpoint(&self) -> &str {
        self.endpoint.as_str().trim_end_matches('/')
    }

    fn request(&self, method: Method, parts: &[&str]) -> RequestBuilder {
        self.request_with(method, parts, &[])
    }

    /// A request to a path, each part of it and of the query taken as it is.
    fn request_with(&self, method: Method, parts: &[&str], query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["strongroom", "v1"]).extend(parts);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url).header("X-Auth-Token", self.token.expose_secret());
        match &self.project {
            Some(project) => request.header("X-Project-Id", project),
            None => request,
        }
    }

    /// Sends; an answer that is no success becomes the error that the server meant.
    async fn send(&self, request: RequestBuilder) -> Outcome<Response> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(response).await)
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Outcome<T> {
        let response = self.send(request.timeout(ANSWER_TIMEOUT)).await?;
        self.document(response).await
    }

    async fn document<T: DeserializeOwned>(&self, response: Response) -> Outcome<T> {
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Stop::new(Exit::Failed, format!("the server's answer is not understood ({error})"))
                .with_hint("use a strongroom command of the same release as the server")
        })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, parts: &[&str]) -> Outcome<T> {
        self.answer(self.request(Method::GET, parts)).await
    }

    pub(crate) async fn get_with<T: DeserializeOwned>(
        &self,
        parts: &[&str],
        query: &[(&str, &str)],
    ) -> Outcome<T> {
        self.answer(self.request_with(Method::GET, parts, query)).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        parts: &[&str],
        body: &impl Serialize,
    ) -> Outcome<T> {
        self.answer(self.request(Method::POST, parts).json(body)).await
    }

    pub(crate) async fn put<T: DeserializeOwned>(&self, parts: &[&str], body: &impl Serialize) -> Outcome<T> {
        self.answer(self.request(Method::PUT, parts).json(body)).await
    }

    /// A POST of which an answer with this status is good as well.
    pub(crate) async fn post_or<T: DeserializeOwned>(
        &self,
        parts: &[&str],
        body: &impl Serialize,
        also: StatusCode,
    ) -> Outcome<T> {
        let request = self.request(Method::POST, parts).json(body).timeout(ANSWER_TIMEOUT);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() || response.status() == also {
            return self.document(response).await;
        }
        Err(refusal(response).await)
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, parts: &[&str]) -> Outcome<T> {
        self.answer(self.request(Method::DELETE, parts)).await
    }

    fn unreachable(&self, error: &reqwest::Error) -> Stop {
        let what = if error.is_timeout() { "does not answer in time" } else { "cannot be reached" };
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        Stop::new(Exit::Unreachable, format!("the server at {} {what} ({cause})", self.endpoint()))
            .with_hint("is `strongroom serve` running there? STRONGROOM_ENDPOINT or --data-dir say where it is looked for")
    }
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && !url.cannot_be_a_base()
}

fn http_client(options: &ClientOptions) -> Outcome<reqwest::Client> {
    // A proxy of the environment is for the world outside; credentials never go through it.
    let mut builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(SILENCE_TIMEOUT)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none());
    if let Some(path) = &options.server_ca_file {
        let unusable = |what: String| Stop::usage(format!("server-ca-file: {} {what}", path.display()));
        let pem = std::fs::read(path).map_err(|error| unusable(format!("cannot be read: {error}")))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|error| unusable(format!("holds no certificates: {error}")))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder
        .build()
        .map_err(|error| Stop::new(Exit::Failed, format!("the HTTP client does not start: {error}")))
}

fn from_data_dir(options: &ClientOptions) -> Outcome<(String, String, Option<String>)> {
    let data_dir = data_dir(options.data_dir.as_ref());
    match read_credentials(&data_dir)? {
        Some(found) => Ok((found.endpoint, found.token, Some(found.project_id))),
        None => Err(Stop::new(
            Exit::Unreachable,
            format!("no server is known: there is no bootstrap.json in {}", data_dir.display()),
        )
        .with_hint(
            "start one with `strongroom serve`, give its --data-dir, or set STRONGROOM_ENDPOINT and STRONGROOM_TOKEN",
        )),
    }
}

/// What the server refused, in its own words.
async fn refusal(response: Response) -> Stop {
    let status = response.status();
    let Ok(body) = response.json::<ErrorBody>().await else {
        return Stop::new(Exit::Failed, format!("the server answered {status}"))
            .with_hint("is this a strongroom server of the same release?");
    };
    body.into()
}

impl From<ErrorBody> for Stop {
    fn from(body: ErrorBody) -> Self {
        let exit = if body.field.is_some() {
            Exit::Usage
        } else {
            kind_of(&body.code).map_or(Exit::Failed, Exit::of)
        };
        Self {
            exit,
            code: Some(body.code),
            message: body.message,
            hint: Some(body.hint).filter(|hint| !hint.is_empty()),
            request_id: Some(body.request_id),
        }
    }
}
