//! Dumps from a server that says what the test wants, into a sink that remembers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use strongroom_core::ErrorKind;
use strongroom_core::engine::{CancelToken, Source, TlsMode};
use strongroom_core::network::SourceNetworks;

use super::kept::Memory;
use super::*;

/// What a server does when a table is read.
#[derive(Clone)]
enum Say {
    Packet(Vec<u8>),
    HangUp,
    /// Until the client goes.
    Nothing,
}

type Script = Arc<dyn Fn(&str, usize) -> Vec<Say> + Send + Sync>;

const END: [u8; 7] = [0xfe, 0, 0, 2, 0, 0, 0];

fn row(fields: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    for field in fields {
        body.push(0xfd);
        body.extend_from_slice(&u32::try_from(field.len()).unwrap().to_le_bytes()[..3]);
        body.extend_from_slice(field);
    }
    body
}

/// A table of one column with these values.
fn told(values: &[&[u8]]) -> Vec<Say> {
    let rows = values.iter().map(|value| row(&[value]));
    let head = [vec![1], b"\x03def".to_vec()];
    head.into_iter().chain(rows).chain([END.to_vec()]).map(Say::Packet).collect()
}

fn cut_short(mut said: Vec<Say>, length: usize, then: Say) -> Vec<Say> {
    said.truncate(length);
    said.push(then);
    said
}

fn packet(number: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    [&[length[0], length[1], length[2], number], body].concat()
}

fn take(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 4];
    client.read_exact(&mut head).ok()?;
    let mut body = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    client.read_exact(&mut body).ok()?;
    Some(body)
}

fn answer(statement: &str, tries: &AtomicUsize, script: &Script) -> Vec<Say> {
    let rows = |columns: usize, row_bytes: Vec<u8>| {
        let head = [vec![vec![u8::try_from(columns).unwrap()]], vec![b"\x03def".to_vec(); columns]].concat();
        head.into_iter().chain([row_bytes, END.to_vec()]).map(Say::Packet).collect()
    };
    if statement.starts_with("SET ") {
        vec![Say::Packet(vec![0, 0, 0, 2, 0, 0, 0])]
    } else if statement.starts_with("SELECT DATE_FORMAT") {
        rows(1, row(&[b"2026-11-30T04:12:33.123456Z"]))
    } else if statement.starts_with("SELECT ENGINE") {
        rows(2, row(&[b"CSV", b"2026-01-01 00:00:00"]))
    } else if statement.starts_with("SELECT COLUMN_NAME") {
        rows(4, [row(&[b"body", b"longblob"]), vec![0xfb], row(&[b""])].concat())
    } else {
        let table = statement.split('`').rev().nth(1).unwrap();
        script(table, tries.fetch_add(1, Ordering::Relaxed))
    }
}

fn serve(mut client: TcpStream, tries: &AtomicUsize, script: &Script) -> Option<()> {
    let mut greeting = b"\x0a9.7.4\0\x01\0\0\0saltsalt\0\xff\xff\xff\x02\0\xff\xff\x15".to_vec();
    greeting.extend_from_slice(&[0; 10]);
    greeting.extend_from_slice(b"saltsaltsalt\0caching_sha2_password\0");
    client.write_all(&packet(0, &greeting)).ok()?;
    take(&mut client)?;
    client.write_all(&packet(2, &[0, 0, 0, 2, 0, 0, 0])).ok()?;
    loop {
        let body = take(&mut client).filter(|body| body[0] == 3)?;
        for say in answer(&String::from_utf8_lossy(&body[1..]), tries, script) {
            match say {
                Say::Packet(body) => client.write_all(&packet(1, &body)).ok()?,
                Say::HangUp => return None,
                Say::Nothing => {
                    let _ = client.read(&mut [0]);
                    return None;
                }
            }
        }
    }
}

/// A server, and how many connections were made to it.
fn server(script: Script) -> (Source, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = Source {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().unwrap().port(),
        user: "x".to_owned(),
        password: "secret".to_owned().into(),
        tls: TlsMode::Disable,
        ca_pem: None,
        allow_md5: false,
        networks: SourceNetworks::loopback(),
    };
    let (tries, counted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&counted);
    thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            counter.fetch_add(1, Ordering::Relaxed);
            let (tries, script) = (Arc::clone(&tries), Arc::clone(&script));
            thread::spawn(move || serve(client, &tries, &script));
        }
    });
    (source, counted)
}

struct Taken {
    tables: Vec<EmptyTable>,
    /// The file, when there is one.
    text: Option<String>,
    connections: usize,
}

impl Taken {
    /// How many rows of a table were read, or why none.
    fn of(&self, name: &str) -> Result<u64, &str> {
        let table = self.tables.iter().find(|table| table.table == name).unwrap();
        assert_eq!(table.dump.is_some(), table.dump_lacks.is_none());
        table.dump.as_ref().map(|dump| dump.rows).ok_or(table.dump_lacks.as_deref().unwrap_or_default())
    }
}

fn dump_within(bounds: Bounds, names: &[&str], script: Script) -> Result<Taken> {
    let (source, connections) = server(script);
    let (cancel, sink) = (CancelToken::new(), Memory::default());
    let watch = Watch::new(&cancel);
    let reach = || Connection::open(&source, &watch);
    let mut tables: Vec<EmptyTable> = names
        .iter()
        .map(|name| EmptyTable::new("s".to_owned(), (*name).to_owned(), "CSV".to_owned(), None))
        .collect();
    let file = DumpFile::new(&sink, 0, bounds.file_bytes)?;
    Dump { reach: &reach, watch: &watch, bounds, file, session: None, broken: 0 }.take_all(&mut tables)?;
    let kept = sink.0.into_inner().unwrap();
    let text = kept.content.map(|content| String::from_utf8(content).unwrap());
    assert!(text.is_none() || kept.is_stored);
    Ok(Taken { tables, text, connections: connections.load(Ordering::Relaxed) })
}

fn dump(names: &[&str], script: Script) -> Result<Taken> {
    dump_within(Bounds::USUAL, names, script)
}

fn inserted(text: &str, table: &str) -> usize {
    text.lines()
        .filter(|line| line.starts_with(&format!("INSERT INTO `s`.`{table}` (`body`) VALUES (")))
        .count()
}

#[test]
fn rows_become_statements_of_one_line_and_bounded_length() {
    let large = vec![7_u8; 300_000];
    let values: Vec<Vec<u8>> = (0..20).map(|_| large.clone()).collect();
    let script: Script = Arc::new(move |table, _| match table {
        "large" => told(&values.iter().map(Vec::as_slice).collect::<Vec<_>>()),
        _ => told(&[b"a\n;'\\!", b""]),
    });
    let taken = dump(&["large", "small", "none\nat all"], script).unwrap();
    assert_eq!((taken.of("large"), taken.of("small")), (Ok(20), Ok(2)));
    assert_eq!(taken.of("none\nat all"), Err("its name holds a line end"));
    assert_eq!(taken.connections, 1);
    let text = taken.text.unwrap();
    assert_eq!((inserted(&text, "large"), inserted(&text, "small")), (10, 1));
    assert!(
        text.contains("INSERT INTO `s`.`small` (`body`) VALUES (0x610a3b275c21), ('');\n"),
        "{}",
        &text[text.len() - 900..]
    );
    assert!(text.starts_with(HEAD) && text.ends_with(FOOT));
    for line in text.lines() {
        assert!(line.starts_with("-- ") || line.ends_with(';') && line.len() < 2 << 20, "{line}");
    }
    let first = taken.tables[0].dump.as_ref().unwrap();
    assert_eq!(first.began, "2026-11-30T04:12:33.123456Z");
    assert!(first.bytes > 12_000_000 && first.bytes < text.len() as u64);
}

/// A table that is cut in its middle, after megabytes of it are with the sink, leaves nothing of itself.
#[test]
fn b04_half_a_table_never_stands_in_the_file() {
    let large = vec![7_u8; 900_000];
    let script = |then: Say, until: usize| -> Script {
        let large = large.clone();
        Arc::new(move |table, at| match table {
            "large" if at < until => cut_short(told(&[&large, &large, &large]), 4, then.clone()),
            "large" => told(&[&large, &large, &large]),
            _ => told(&[table.as_bytes()]),
        })
    };
    let names = ["first", "large", "last"];
    let error = b"\xff\x25\x05#70100Query execution was interrupted".to_vec();
    for (then, reason) in [
        (Say::HangUp, "the connection to the source broke again and again"),
        (Say::Packet(error), "the server said \"Query execution was interrupted\" (1317)"),
    ] {
        let taken = dump(&names, script(then, 99)).unwrap();
        assert_eq!((taken.of("first"), taken.of("last")), (Ok(1), Ok(1)));
        assert_eq!(taken.of("large"), Err(reason));
        let text = taken.text.unwrap();
        assert_eq!(["first", "large", "last"].map(|table| inserted(&text, table)), [1, 0, 1]);
        assert!(text.contains(FOOT) && text.trim_end_matches('\n').ends_with(FOOT.trim_end()));
        assert!(
            text.len() > 3_000_000 && text.replace("\n\n", "").len() < 10_000,
            "empty lines are what is left"
        );
    }
    // Once is no harm: it is read again.
    let taken = dump(&names, script(Say::HangUp, 2)).unwrap();
    assert_eq!((taken.of("large"), taken.connections), (Ok(3), 2));
    assert_eq!(inserted(&taken.text.unwrap(), "large"), 3);
    // Nothing at all was read: there is no file.
    let taken = dump(&["large"], script(Say::HangUp, 99)).unwrap();
    assert!(taken.text.is_none());
}

#[test]
fn a_source_whose_connections_break_is_not_asked_for_ever() {
    let names: Vec<String> = (0..50).map(|number| format!("t{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let taken = dump(&names, Arc::new(|_, _| vec![Say::HangUp])).unwrap();
    assert_eq!(taken.connections, 4);
    assert!(taken.text.is_none());
    assert_eq!(taken.of("t49"), Err("the connection to the source broke again and again"));
}

#[test]
fn rows_that_are_too_large_are_told_and_not_read() {
    let limit = limits::OTHER_TABLE_ROW_BYTES_MAX;
    for (length, is_read) in [(limit - 4, true), (limit - 3, false)] {
        let value = vec![1_u8; length];
        let script: Script = Arc::new(move |table, _| match table {
            "large" => told(&[b"x", &value]),
            _ => told(&[b"x"]),
        });
        let taken = dump(&["large", "last"], script).unwrap();
        assert_eq!(taken.of("last"), Ok(1));
        assert_eq!(taken.connections, if is_read { 1 } else { 2 }, "half a row is behind nobody's question");
        let told = if is_read { Ok(2) } else { Err("it has a row of more than 4 MiB") };
        assert_eq!(taken.of("large"), told);
        let longest = taken.text.unwrap().lines().map(str::len).max().unwrap();
        assert!(longest < 16 << 20);
    }
}

#[test]
fn a_file_that_would_be_too_large_has_no_part_of_the_table() {
    assert_eq!(Bounds::USUAL.file_bytes, limits::OTHER_TABLES_BYTES_MAX);
    let script: Script = Arc::new(|table, _| match table {
        "large" => told(&[vec![1_u8; 90_000].as_slice(); 30]),
        _ => told(&[b"x"]),
    });
    let names = ["first", "large", "last"];
    let whole = dump(&names, Arc::clone(&script)).unwrap();
    let [first, large, last] = [0, 1, 2].map(|at| whole.tables[at].dump.as_ref().unwrap().bytes);
    let exact = HEAD.len() as u64 + first + large + last;
    let within =
        |file_bytes| dump_within(Bounds { file_bytes, ..Bounds::USUAL }, &names, Arc::clone(&script));
    assert_eq!(within(exact).unwrap().of("last"), Ok(1));
    let taken = within(exact - 1).unwrap();
    assert_eq!(taken.of("large"), Ok(30));
    let reason = format!(
        "the file with all of them would be larger than {} GiB",
        limits::OTHER_TABLES_BYTES_MAX >> 30
    );
    assert_eq!(taken.of("last"), Err(reason.as_str()));
    let taken = within(exact - last - 1).unwrap();
    assert_eq!(
        (taken.of("first"), taken.of("large"), taken.of("last")),
        (Ok(1), Err(reason.as_str()), Ok(1))
    );
    assert_eq!(inserted(&taken.text.unwrap(), "large"), 0);
}

#[test]
fn b21_a_table_that_does_not_come_keeps_nobody_waiting() {
    assert_eq!(Bounds::USUAL.time, Duration::from_millis(limits::OTHER_TABLE_TIMEOUT_MS));
    let script: Script = Arc::new(|table, _| match table {
        "slow" => cut_short(told(&[b"x", b"y"]), 3, Say::Nothing),
        _ => told(&[b"x"]),
    });
    let begun = Instant::now();
    let bounds = Bounds { time: Duration::from_secs(1), ..Bounds::USUAL };
    let taken = dump_within(bounds, &["slow", "last"], script).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(taken.of("slow"), Err(took_too_long().as_str()));
    assert_eq!(taken.of("last"), Ok(1));
}

#[test]
fn h06_rows_of_a_table_that_are_none_are_refused() {
    let first = |body: &[u8]| {
        let mut said = told(&[b"x", b"y"]);
        said[3] = Say::Packet(body.to_vec());
        said
    };
    let other_columns = [vec![2], b"\x03def".to_vec(), b"\x03def".to_vec(), row(&[b"x", b"y"]), END.to_vec()];
    for said in [
        first(b""),
        first(b"\x05abc"),
        first(b"\x01ab"),
        first(b"\x01a\x01b"),
        first(b"\xfd\xff\xff\xffabc"),
        first(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xffabc"),
        first(b"\xfe"),
        first(&[0xfe, 0, 0, 8, 0, 0, 0]),
        other_columns.map(Say::Packet).to_vec(),
        vec![Say::Packet(b"\xfb/etc/passwd".to_vec())],
        vec![Say::Packet(vec![0, 0, 0, 2, 0, 0, 0])],
    ] {
        let script: Script = Arc::new(move |_, _| said.clone());
        let Err(fault) = dump(&["t"], script) else { panic!("it was believed") };
        assert_eq!(Error::from(fault).kind(), ErrorKind::SourceHostile);
    }
}
