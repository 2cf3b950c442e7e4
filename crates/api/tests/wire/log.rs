//! The log of the listener: one event for each request, in one line, without a secret.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::client::{Ask, send};
use crate::room::room;

/// Keeps each event as text. Spans are not looked at.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Kept {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{} {}", event.metadata().level(), event.metadata().target()));
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The room's server runs on the thread of the test, so the thread's subscriber hears it.
#[tokio::test]
async fn a12_a17_a_request_is_one_line_without_its_secrets() {
    let kept = Kept::default();
    let _guard = tracing::subscriber::set_default(kept.clone());
    let room = room().await;
    let admin = room.ours.admin();
    let source = r#"{"name":"orders","engine":"postgresql","host":"127.0.0.1","port":5432,"user":"broken","password":"typed-password"}"#;
    let asks = [
        Ask::get(&room.ours.v1("/backups")).token(&admin),
        Ask::get(&format!("/rds/v1/x/%0a%1b[31m\u{2028}?token={admin}")).token("wrong-token"),
        Ask::new("GET\u{7f}", "/healthz"),
        Ask::post("/strongroom/v1/instances", source).token(&admin),
        Ask::get("/healthz").header("User-Agent", "evil\tagent").header("Cookie", "secret-cookie"),
    ];
    let mut answered = Vec::new();
    for ask in &asks {
        kept.0.lock().unwrap().clear();
        let reply = send(room.addr, ask).await;
        let lines = kept.0.lock().unwrap().clone();
        let ours: Vec<_> = lines.iter().filter(|line| line.contains("Request answered.")).collect();
        // What is no HTTP at all never becomes a request.
        let Some(id) = reply.header("X-Request-Id") else { continue };
        assert_eq!(ours.len(), 1, "{lines:?}");
        assert!(
            ours[0].contains(id) && ours[0].contains(&format!("http.status={}", reply.status)),
            "{ours:?}"
        );
        answered.extend(lines.into_iter().filter(|line| line.contains("strongroom")));
    }
    assert!(answered.len() >= 4, "{answered:?}");
    for line in answered {
        for secret in [admin.as_str(), "wrong-token", "typed-password", "secret-cookie"] {
            assert!(!line.contains(secret), "{line}");
        }
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}
