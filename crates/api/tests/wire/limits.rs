//! Limits of connections, headers, bodies and time. Rooms of these tests have shorter ones; the
//! product's are compared by their names.

use std::time::{Duration, Instant};

use strongroom_api::ApiSettings;
use strongroom_core::limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{Ask, parse, send, speak};
use crate::room::Room;
use crate::rules::check_every_answer;

/// Far longer than the limits of these rooms.
const PATIENCE: Duration = Duration::from_secs(20);

fn short() -> ApiSettings {
    ApiSettings {
        header_read_timeout: Duration::from_millis(300),
        body_read_timeout: Duration::from_millis(300),
        ..ApiSettings::default()
    }
}

#[test]
fn a07_a09_the_product_s_limits_are_what_was_promised() {
    assert_eq!(limits::BODY_SIZE_BYTES_MAX, 65_536);
    assert_eq!(limits::HEADERS_SIZE_BYTES_MAX, 32_768);
    let settings = ApiSettings::default();
    assert_eq!(settings.header_read_timeout, Duration::from_millis(limits::HEADER_READ_TIMEOUT_MS));
    assert_eq!(settings.body_read_timeout, Duration::from_millis(limits::BODY_READ_TIMEOUT_MS));
    assert_eq!(settings.request_timeout, Duration::from_millis(limits::REQUEST_TIMEOUT_MS));
    assert_eq!(settings.connections_max, limits::CONNECTIONS_MAX);
    assert_eq!(settings.requests_max, limits::REQUESTS_MAX);
    assert_eq!(settings.requests_of_project_max, limits::REQUESTS_OF_PROJECT_MAX);
    assert_eq!(settings.streams_max, limits::STREAMS_MAX);
    assert_eq!(settings.stalled_reader_timeout, Duration::from_millis(limits::STALLED_READER_TIMEOUT_MS));
    assert_eq!(settings.header_read_timeout, Duration::from_secs(10));
    assert_eq!(settings.body_read_timeout, Duration::from_secs(30));
}

/// Sends one byte after the other, and says how long the server bore it.
async fn drip(room: &Room, first: &str, drop: &[u8]) -> (Duration, Vec<u8>) {
    let began = Instant::now();
    let mut stream = TcpStream::connect(room.addr).await.unwrap();
    stream.write_all(first.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let slow = async {
        let (mut reading, mut writing) = stream.split();
        let feed = async {
            while writing.write_all(drop).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            std::future::pending::<()>().await;
        };
        let read = async {
            let mut piece = vec![0; 4096];
            while let Ok(length @ 1..) = reading.read(&mut piece).await {
                answer.extend_from_slice(&piece[..length]);
            }
        };
        tokio::select! { () = feed => {}, () = read => {} }
    };
    timeout(PATIENCE, slow).await.expect("the server gives a slow caller up");
    (began.elapsed(), answer)
}

#[tokio::test]
async fn a09_headers_that_come_too_slowly_end_the_connection() {
    let room = Room::furnish(short(), None).await;
    let (lasted, answer) = drip(&room, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"a").await;
    assert!(lasted >= Duration::from_millis(250) && lasted < Duration::from_secs(10), "{lasted:?}");
    assert!(parse(&answer).is_none_or(|reply| reply.status == 408), "{:?}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a09_a_connection_that_says_nothing_is_closed() {
    let room = Room::furnish(short(), None).await;
    let mut stream = TcpStream::connect(room.addr).await.unwrap();
    let mut nothing = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut nothing)).await.expect("it is closed").unwrap();
    // So is one that was of use before.
    let mut stream = TcpStream::connect(room.addr).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed").unwrap();
    assert_eq!(parse(&answer).unwrap().status, 200);
}

#[tokio::test]
async fn a09_a_body_that_comes_too_slowly_is_given_up() {
    let room = Room::furnish(short(), None).await;
    let before = room.stored().await;
    for framing in ["Content-Length: 60000", "Transfer-Encoding: chunked"] {
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {}\r\n{framing}\r\n\r\n",
            room.ours.v1("/backups"),
            room.ours.admin()
        );
        let (lasted, answer) = drip(&room, &head, b"1\r\n{\r\n").await;
        let reply = parse(&answer).unwrap();
        assert_eq!((reply.status, reply.v1_code().as_str()), (400, "RDS.0001"));
        assert!(reply.v1_message().contains("did not come in time"), "{}", reply.text());
        assert!(lasted >= Duration::from_millis(250) && lasted < Duration::from_secs(10), "{lasted:?}");
    }
    assert_eq!(room.stored().await, before);
}

#[tokio::test]
async fn a09_others_are_served_while_many_are_slow() {
    let room = Room::furnish(ApiSettings::default(), None).await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(room.addr).await.unwrap();
        stream.write_all(b"POST /healthz HTTP/1.1\r\nX-Slow: ").await.unwrap();
        slow.push(stream);
    }
    let began = Instant::now();
    assert_eq!(room.ask(Ask::get(&room.ours.v1("/backups"))).await.status, 200);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

fn post_head(room: &Room, framing: &str) -> String {
    let (path, token) = (room.ours.v1("/backups"), room.ours.admin());
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n{framing}\r\n\r\n")
}

#[tokio::test]
async fn a07_a_body_too_large_is_refused_before_it_came() {
    let room = Room::furnish(ApiSettings::default(), None).await;
    let before = room.stored().await;
    let announced = post_head(&room, "Content-Length: 1073741824");
    let endless = post_head(&room, "Transfer-Encoding: chunked");
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    for bytes in [
        announced.clone(),
        announced.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n"),
        endless + &chunk.repeat(64),
    ] {
        let reply = parse(&speak(room.addr, bytes.as_bytes()).await).unwrap();
        assert_eq!((reply.status, reply.v1_code().as_str()), (413, "RDS.0042"), "{}", reply.text());
    }
    assert_eq!(room.stored().await, before);
}

/// Without an announced length the limit is met while reading.
#[tokio::test]
async fn a07_a_body_in_chunks_has_the_same_limit() {
    let room = Room::furnish(ApiSettings::default(), None).await;
    let wish = "{}";
    for (length, status, code) in
        [(limits::BODY_SIZE_BYTES_MAX, 400, "RDS.0001"), (limits::BODY_SIZE_BYTES_MAX + 1, 413, "RDS.0042")]
    {
        let body = format!("{wish}{}", " ".repeat(length - wish.len()));
        let head = post_head(&room, "Transfer-Encoding: chunked\r\nConnection: close");
        let bytes = format!("{head}{length:x}\r\n{body}\r\n0\r\n\r\n");
        let reply = parse(&speak(room.addr, bytes.as_bytes()).await).unwrap();
        assert_eq!((reply.status, reply.v1_code().as_str()), (status, code), "{}", reply.text());
    }
}

#[tokio::test]
async fn a07_a_body_shorter_than_announced_is_no_body() {
    let room = Room::furnish(short(), None).await;
    let before = room.stored().await;
    let mut stream = TcpStream::connect(room.addr).await.unwrap();
    stream
        .write_all(format!("{}{{\"backup\":", post_head(&room, "Content-Length: 60")).as_bytes())
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it ends");
    assert!(parse(&answer).is_none_or(|reply| reply.status == 400), "{:?}", String::from_utf8_lossy(&answer));
    assert_eq!(room.stored().await, before);
}

#[tokio::test]
async fn headers_have_a_limit() {
    let room = Room::furnish(ApiSettings::default(), None).await;
    let ask = |bytes: usize| Ask::get("/healthz").header("X-Long", &"x".repeat(bytes));
    assert_eq!(send(room.addr, &ask(limits::HEADERS_SIZE_BYTES_MAX - 1024)).await.status, 200);
    let over = ask(limits::HEADERS_SIZE_BYTES_MAX + 1024);
    let reply = send(room.addr, &over).await;
    assert_eq!(reply.status, 431);
    check_every_answer(&over, &reply);
    assert_eq!(send(room.addr, &ask(1 << 20)).await.status, 431);
}

#[tokio::test]
async fn a10_requests_that_could_be_read_in_two_ways_end_the_connection() {
    let room = Room::furnish(short(), None).await;
    let before = room.stored().await;
    let smuggled = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    let both = post_head(&room, "Content-Length: 5\r\nTransfer-Encoding: chunked");
    let both_turned = post_head(&room, "Transfer-Encoding: chunked\r\nContent-Length: 5");
    for bytes in [
        post_head(&room, "Content-Length: 2\r\nContent-Length: 40") + "{}" + smuggled,
        both + "0\r\n\r\n" + smuggled,
        both_turned + "0\r\n\r\n" + smuggled,
        post_head(&room, "Transfer-Encoding: chunked, identity") + "0\r\n\r\n" + smuggled,
        post_head(&room, "Transfer-Encoding: xchunked") + "0\r\n\r\n" + smuggled,
        post_head(&room, "Content-Length: +2") + "{}" + smuggled,
        post_head(&room, "Content-Length: 0x2") + "{}" + smuggled,
        post_head(&room, "Content-Length : 2") + "{}" + smuggled,
        post_head(&room, "X-Fold: a\r\n b") + smuggled,
        "GET /healthz HTTP/1.1\r\nHost: x\rX: y\r\n\r\n".to_owned() + smuggled,
        "GET  /healthz HTTP/1.1\r\n\r\n".to_owned() + smuggled,
        "GET /healthz HTTP/9.9\r\n\r\n".to_owned() + smuggled,
    ] {
        let answer = speak(room.addr, bytes.as_bytes()).await;
        let text = String::from_utf8_lossy(&answer);
        let reply = parse(&answer).unwrap_or_else(|| panic!("no answer to {bytes}"));
        assert_eq!(reply.status, 400, "{bytes}\n{text}");
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{bytes}\n{text}");
    }
    assert_eq!(room.stored().await, before);
}

#[tokio::test]
async fn a24_requests_sent_at_once_are_answered_in_their_order() {
    let room = Room::furnish(ApiSettings::default(), None).await;
    let bytes = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = String::from_utf8(speak(room.addr, bytes.as_bytes()).await).unwrap();
    let statuses: Vec<&str> = answer.matches("HTTP/1.1 200").chain(answer.matches("HTTP/1.1 404")).collect();
    assert_eq!(statuses, ["HTTP/1.1 200", "HTTP/1.1 404"]);
    // Callers that go away in the middle are nobody's loss.
    for _ in 0..50 {
        let mut stream = TcpStream::connect(room.addr).await.unwrap();
        stream.write_all(post_head(&room, "Content-Length: 60").as_bytes()).await.unwrap();
        drop(stream);
    }
    assert_eq!(send(room.addr, &Ask::get("/healthz")).await.status, 200);
}

#[tokio::test]
async fn a09_connections_over_the_limit_wait_when_all_others_are_at_work() {
    let room = Room::furnish(ApiSettings { connections_max: 2, ..ApiSettings::default() }, None).await;
    let at_work = |name: &str| {
        let body = format!(
            r#"{{"name":"{name}","engine":"postgresql","host":"127.0.0.1","port":5432,"user":"slow","password":""}}"#
        );
        let ask = Ask::post("/strongroom/v1/instances", body).token(&room.ours.admin());
        let addr = room.addr;
        tokio::spawn(async move { send(addr, &ask).await.status })
    };
    let (first, second) = (at_work("first"), at_work("second"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let waiting = tokio::spawn({
        let addr = room.addr;
        async move { send(addr, &Ask::get("/healthz")).await.status }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    assert_eq!(timeout(PATIENCE, first).await.unwrap().unwrap(), 201, "nobody at work makes way");
    assert_eq!(timeout(PATIENCE, second).await.unwrap().unwrap(), 201);
    assert_eq!(timeout(PATIENCE, waiting).await.unwrap().unwrap(), 200);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up() {
    let settings = ApiSettings { request_timeout: Duration::from_millis(300), requests_max: 1, ..short() };
    let room = Room::furnish(settings, None).await;
    let body =
        r#"{"name":"slow","engine":"postgresql","host":"127.0.0.1","port":5432,"user":"slow","password":""}"#;
    let ask = Ask::post("/strongroom/v1/instances", body).token(&room.ours.admin());
    let began = Instant::now();
    let reply = room.send(ask.clone()).await;
    check_every_answer(&ask, &reply);
    assert_eq!((reply.status, reply.native_code().as_str()), (503, "unavailable"), "{}", reply.text());
    assert_eq!(reply.header("Retry-After"), Some("5"));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // Its place is free again.
    assert_eq!(room.ask(Ask::get("/strongroom/v1/instances")).await.status, 200);
}

/// One tenant asks for more slow work than a server does at once, the other one is served meanwhile.
#[tokio::test]
async fn a25_a_tenant_that_asks_for_everything_at_once_waits_for_itself() {
    let settings = ApiSettings { requests_max: 4, requests_of_project_max: 2, ..ApiSettings::default() };
    let room = Room::furnish(settings, None).await;
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..6 {
        let body = format!(
            r#"{{"name":"source-{number}","engine":"postgresql","host":"127.0.0.1","port":5432,"user":"slow","password":""}}"#
        );
        let ask = Ask::post("/strongroom/v1/instances", body).token(&room.theirs.admin());
        let addr = room.addr;
        asked.spawn(async move { send(addr, &ask).await.status });
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(room.ask(Ask::get(&room.ours.v1("/backups"))).await.status, 200);
    }
    let took = began.elapsed();
    let early = asked.try_join_next();
    assert!(early.is_none(), "all of theirs are at work or wait, after {took:?}: {early:?}");
    for status in asked.join_all().await {
        assert_eq!(status, 201, "whoever waits has its turn");
    }
}

#[tokio::test]
async fn a_stopping_server_answers_what_it_has_begun() {
    let mut room = Room::furnish(ApiSettings::default(), None).await;
    let body =
        r#"{"name":"slow","engine":"postgresql","host":"127.0.0.1","port":5432,"user":"slow","password":""}"#;
    let ask = Ask::post("/strongroom/v1/instances", body).token(&room.ours.admin());
    let begun = tokio::spawn({
        let addr = room.addr;
        async move { send(addr, &ask).await.status }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    room.stop().await;
    assert_eq!(timeout(PATIENCE, begun).await.unwrap().unwrap(), 201);
    assert!(TcpStream::connect(room.addr).await.is_err());
}
