//! Tokens: made, listed, revoked. A token is shown once.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{Request, StatusCode};
use strongroom_core::Field;
use strongroom_core::id::RequestId;
use strongroom_service::{Action, NewToken, Scope};

use super::wire::{SCHEMA, TokenList, TokenRequest};
use super::{Answer, Refusal, accounts, reference, views};
use crate::app::App;
use crate::body;

pub(crate) async fn create(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    request: Request<Body>,
) -> Answer<Response> {
    let issued = async {
        let request: TokenRequest = body::document(&app, &scope, Action::Administer, request).await?;
        let role = accounts::role(request.role.as_deref().unwrap_or("admin"))?;
        let new = NewToken { name: request.name, role, expires_in_s: request.expires_in_s };
        app.service.token_create(&scope, new).await
    };
    let issued = issued.await.map_err(Refusal::of(&id))?;
    let view = views::token(&issued.row, Some(issued.token));
    Ok((StatusCode::CREATED, Json(view)).into_response())
}

pub(crate) async fn list(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
) -> Answer<Json<TokenList>> {
    let rows = app.service.token_list(&scope).await.map_err(Refusal::of(&id))?;
    Ok(Json(TokenList { schema: SCHEMA, tokens: rows.iter().map(|row| views::token(row, None)).collect() }))
}

pub(crate) async fn revoke(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(token): Path<String>,
) -> Answer<Json<serde_json::Value>> {
    let revoked = async {
        reference::checked(Field::Token, "token", &token)?;
        app.service.token_revoke(&scope, &token).await
    };
    revoked.await.map_err(Refusal::of(&id))?;
    Ok(Json(serde_json::json!({})))
}
