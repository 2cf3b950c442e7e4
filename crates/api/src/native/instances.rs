//! Instances: register, look at, check, remove.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{Request, StatusCode};
use strongroom_core::engine::{EngineKind, TlsMode};
use strongroom_core::id::RequestId;
use strongroom_core::text::InstanceName;
use strongroom_core::{Error, Field, Result};
use strongroom_service::{Action, NewInstance, Scope};

use super::wire::{CheckView, InstanceAdded, InstanceList, InstanceRequest, InstanceView, SCHEMA};
use super::{Answer, Refusal, reference};
use crate::app::App;
use crate::body;

pub(crate) async fn add(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    request: Request<Body>,
) -> Answer<Response> {
    let refusal = Refusal::of(&id);
    let added = async {
        let new = new_instance(body::document(&app, &scope, Action::Operate, request).await?)?;
        app.service.instance_add(&scope, new).await
    };
    let added = added.await.map_err(refusal)?;
    let status =
        if added.instance.is_some() { StatusCode::CREATED } else { StatusCode::UNPROCESSABLE_ENTITY };
    let view = InstanceAdded {
        schema: SCHEMA,
        instance: added.instance.as_ref().map(InstanceView::from),
        check: CheckView::from(&added.probe),
    };
    Ok((status, Json(view)).into_response())
}

fn new_instance(request: InstanceRequest) -> Result<NewInstance> {
    if request.port == 0 {
        return Err(Error::parameter(Field::Port, "port: must be 1 to 65535"));
    }
    if request.user.is_empty() || request.user.len() > 128 || request.user.chars().any(char::is_control) {
        return Err(Error::parameter(Field::User, "user: must have 1 to 128 printable characters"));
    }
    if request.password.contains('\0') {
        return Err(Error::parameter(Field::Password, "password: must not contain NUL"));
    }
    if request
        .ca_pem
        .as_deref()
        .is_some_and(|pem| pem.contains('\0') || !pem.contains("-----BEGIN CERTIFICATE"))
    {
        return Err(Error::parameter(Field::Tls, "ca_pem: must hold certificates in PEM"));
    }
    Ok(NewInstance {
        name: InstanceName::parse(&request.name)?,
        engine: EngineKind::parse(&request.engine)?,
        host: request.host,
        port: request.port,
        user: request.user,
        password: request.password.into(),
        tls: request.tls.as_deref().map_or(Ok(TlsMode::Require), TlsMode::parse)?,
        ca_pem: request.ca_pem,
        allow_md5: request.allow_md5,
    })
}

pub(crate) async fn list(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
) -> Answer<Json<InstanceList>> {
    let instances = app.service.instance_list(&scope).await.map_err(Refusal::of(&id))?;
    Ok(Json(InstanceList { schema: SCHEMA, instances: instances.iter().map(Into::into).collect() }))
}

pub(crate) async fn show(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(instance): Path<String>,
) -> Answer<Json<InstanceView>> {
    let found = async { app.service.instance_find(&scope, &reference::instance(instance)?).await };
    Ok(Json((&found.await.map_err(Refusal::of(&id))?).into()))
}

pub(crate) async fn check(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(instance): Path<String>,
) -> Answer<Json<CheckView>> {
    let probe = async { app.service.instance_check(&scope, &reference::instance(instance)?).await };
    Ok(Json((&probe.await.map_err(Refusal::of(&id))?).into()))
}

pub(crate) async fn remove(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(instance): Path<String>,
) -> Answer<Json<serde_json::Value>> {
    let removed = async { app.service.instance_remove(&scope, &reference::instance(instance)?).await };
    removed.await.map_err(Refusal::of(&id))?;
    Ok(Json(serde_json::json!({})))
}
