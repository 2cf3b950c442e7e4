//! How long an answer takes tells nothing that the answer does not. Two kinds of requests are sent in
//! turns, so that whatever else the machine does meets both alike.

use std::net::Ipv4Addr;
use std::time::Instant;

use serde_json::json;

use crate::client::{Ask, send_from};
use crate::events::complete;
use crate::room::{Room, room};

/// Microseconds of each request of the two kinds.
async fn in_turns(room: &Room, count: u8, mut ask: impl FnMut(u8, bool) -> Ask) -> [Vec<f64>; 2] {
    let mut taken = [Vec::new(), Vec::new()];
    for turn in 0..count {
        for second in [turn % 2 == 0, turn % 2 != 0] {
            let ask = ask(turn, second);
            // Each turn comes from a place of its own: nobody has to wait for earlier mistakes.
            let source = Ipv4Addr::new(127, 1, u8::from(second), turn + 1);
            let begun = Instant::now();
            let status = send_from(room.addr, source, &ask).await.status;
            taken[usize::from(second)].push(begun.elapsed().as_secs_f64() * 1e6);
            assert!(matches!(status, 401 | 404), "{status}");
        }
    }
    taken
}

/// Mean, and the variance of the mean.
fn mean_and_variance(of: &[f64]) -> (f64, f64) {
    let count = f64::from(u32::try_from(of.len()).unwrap());
    let mean = of.iter().sum::<f64>() / count;
    (mean, of.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count - 1.0) / count)
}

/// Welch's t of the two kinds, without the slowest fifth of all, which tells of the machine.
fn welch([one, other]: &[Vec<f64>; 2]) -> f64 {
    let mut all = [&one[..], other].concat();
    all.sort_by(f64::total_cmp);
    let most = all[all.len() * 4 / 5];
    let kept = |of: &[f64]| of.iter().copied().filter(|one| *one <= most).collect::<Vec<_>>();
    let ((a, va), (b, vb)) = (mean_and_variance(&kept(one)), mean_and_variance(&kept(other)));
    (a - b) / (va + vb).sqrt()
}

/// That two kinds take equally long. What makes one of them slower does so whenever it is asked, what
/// the machine does besides does not: only a difference that comes three times is one.
async fn take_equally_long(room: &Room, count: u8, mut ask: impl FnMut(bool) -> Ask) {
    let mut seen = [0.0; 3];
    for t in &mut seen {
        *t = welch(&in_turns(room, count, |_, second| ask(second)).await);
        if t.abs() < 4.5 {
            return;
        }
    }
    let is_one_way = seen.iter().all(|t| t.is_sign_positive() == seen[0].is_sign_positive());
    assert!(!is_one_way, "{}: t = {seen:?}", ask(true).path);
}

fn median(of: &[f64]) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[tokio::test]
async fn a14_a_foreign_backup_takes_as_long_as_an_absent_one() {
    let room = room().await;
    let instance = room.add_instance(&room.theirs, "orders").await;
    let body = json!({ "backup": { "name": "nightly", "instance": instance.node_id.as_str() } });
    let ask = Ask::post(&room.theirs.v1("/backups"), body.to_string()).token(&room.theirs.admin());
    let made = room.send(ask).await.json()["backup"]["id"].as_str().unwrap().to_owned();
    complete(&room).await;
    let absent = made.chars().rev().collect::<String>();
    take_equally_long(&room, 250, |is_foreign| {
        let id = if is_foreign { &made } else { &absent };
        Ask::get(&format!("/strongroom/v1/backups/{id}")).token(&room.ours.admin())
    })
    .await;
}

/// As for backups, for whatever else has an id: by each dialect that looks at it.
#[tokio::test]
async fn a14_what_is_foreign_takes_as_long_as_what_is_absent() {
    let room = room().await;
    let instance = room.add_instance(&room.theirs, "orders").await;
    let body = json!({ "backup": { "name": "nightly", "instance": instance.node_id.as_str() } });
    let ask = Ask::post(&room.theirs.v1("/backups"), body.to_string()).token(&room.theirs.admin());
    let made = room.send(ask).await.json();
    complete(&room).await;
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let (backup, job) = (text(&made["backup"]["id"]), text(&made["extendparam"]["jobs"][0]));
    let (id, node, name) = (instance.id.to_string(), instance.node_id.to_string(), instance.name.to_string());
    let (v1, v3, native) = (room.ours.v1(""), room.ours.v3(""), "/strongroom/v1".to_owned());
    let cases = [
        (&v1, "/instances/", &node, ""),
        (&v1, "/instances/", &node, "/backups/policy"),
        (&v1, "/jobs/", &job, ""),
        (&v3, "/backups?instance_id=", &id, ""),
        (&v3, "/backup-files?backup_id=", &backup, ""),
        (&v3, "/instances/", &id, "/restore-time"),
        (&v3, "/instances/", &id, "/tags"),
        (&v3, "/jobs?id=", &job, ""),
        (&native, "/instances/", &id, ""),
        (&native, "/instances/", &id, "/policy"),
        (&native, "/instances/", &name, "/tags"),
        (&native, "/jobs/", &job, ""),
        (&native, "/backups?instance=", &id, ""),
    ];
    for (base, before, id, after) in cases {
        let absent = id.chars().rev().collect::<String>();
        take_equally_long(&room, 150, |is_foreign| {
            let id = if is_foreign { id } else { &absent };
            Ask::get(&format!("{base}{before}{id}{after}")).token(&room.ours.admin())
        })
        .await;
    }
}

#[tokio::test]
async fn a11_a_wrong_token_is_refused_in_less_than_5_ms() {
    let room = room().await;
    let list = room.ours.v1("/backups");
    let taken = in_turns(&room, 100, |turn, is_long| {
        let token = format!("srt_{turn}{}", "0".repeat(if is_long { 15_000 } else { 64 }));
        Ask::get(&list).token(&token)
    })
    .await;
    // What it costs, not what the machine does besides: one of them is undisturbed.
    for mut taken in taken {
        taken.sort_by(f64::total_cmp);
        assert!(taken[0] < 5_000.0, "{} µs", taken[0]);
    }
}

/// A real hash, which costs what a hash costs, against an account that has none.
#[tokio::test]
async fn a23_an_account_that_is_not_there_takes_as_long_as_a_wrong_password() {
    let room = room().await;
    let user = json!({ "name": "ada", "password": "correct horse battery" }).to_string();
    let made = room.ask(Ask::post("/strongroom/v1/users", user)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let taken = in_turns(&room, 12, |_, is_there| {
        let name = if is_there { "ada" } else { "nobody" };
        let user = json!({ "name": name, "password": "guess-me-if-you-can" });
        let identity = json!({ "methods": ["password"], "password": { "user": user } });
        Ask::post("/v3/auth/tokens", json!({ "auth": { "identity": identity } }).to_string())
    })
    .await;
    let ratio = median(&taken[0]) / median(&taken[1]);
    assert!((0.5..2.0).contains(&ratio), "absent {} µs, there {} µs", median(&taken[0]), median(&taken[1]));
}
