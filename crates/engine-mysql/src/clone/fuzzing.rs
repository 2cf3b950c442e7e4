//! What a donor tells of itself.

use super::descriptor::empty_locator;
use super::introduction::Introduction;
use super::message::Response;
use crate::connection::fuzzing::{each_packet, packet};

/// A stream of answers up to the one that completes the list.
pub(crate) fn introduction(bytes: &[u8]) -> bool {
    let (mut introduction, mut is_complete) = (Introduction::default(), false);
    each_packet(bytes, |body| {
        let taken = Response::parse(body).and_then(|response| introduction.take(response));
        is_complete |= matches!(taken, Ok(true));
        matches!(taken, Ok(false))
    });
    let _ = introduction.patience_minutes();
    is_complete
}

pub(crate) fn short_introduction() -> Vec<u8> {
    let text = |text: &str| [&u32::try_from(text.len()).unwrap_or(0).to_le_bytes(), text.as_bytes()].concat();
    let locator = empty_locator();
    [
        [&[7][..], &text("clone"), &text("mysql_clone.so")].concat(),
        [&[6][..], &text("utf8mb4_0900_ai_ci")].concat(),
        [&[5][..], &text("version"), &text("9.7.4")].concat(),
        [&[8][..], &text("clone_donor_timeout_after_network_failure"), &text("5")].concat(),
        [&[1, 3, 1, 0, 0, 12, 34, 0, 0, 0][..], &locator].concat(),
        vec![99],
    ]
    .map(|body| packet(&body))
    .concat()
}
