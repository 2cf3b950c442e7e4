//! A server that speaks just enough of the protocol to lie.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) const UUID: &str = "b6c1a0a4-0000-11f1-8000-0242ac110002";

/// The answers to `EXECUTE`; each is the body of one packet.
pub(crate) type Script = Arc<dyn Fn(&mut Answer<'_>) + Send + Sync>;

/// Answers a statement, or leaves it to the usual answers.
pub(crate) type Tell = Arc<dyn Fn(&str, &mut Answer<'_>) -> bool + Send + Sync>;

pub(crate) struct FakeDonor {
    port: u16,
    is_closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeDonor {
    pub(crate) fn start(script: Script) -> Self {
        Self::start_telling(script, Arc::new(|_, _| false))
    }

    pub(crate) fn start_telling(script: Script, tell: Tell) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_closing = Arc::new(AtomicBool::new(false));
        let closing = Arc::clone(&is_closing);
        let thread = std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if closing.load(Ordering::Acquire) {
                    return;
                }
                let (script, tell) = (Arc::clone(&script), Arc::clone(&tell));
                std::thread::spawn(move || serve(client, &script, &tell));
            }
        });
        Self { port, is_closing, thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for FakeDonor {
    fn drop(&mut self) {
        self.is_closing.store(true, Ordering::Release);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends packets. What the client no longer reads is not an error here.
pub(crate) struct Answer<'s> {
    socket: &'s mut TcpStream,
}

impl Answer<'_> {
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    pub(crate) fn hang_up(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }

    pub(crate) fn packet(&mut self, number: u8, body: &[u8]) -> bool {
        let length = u32::try_from(body.len()).unwrap().to_le_bytes();
        self.raw(&[&[length[0], length[1], length[2], number], body].concat())
    }

    pub(crate) fn all(&mut self, bodies: &[Vec<u8>]) {
        self.raw(&packets(bodies));
    }

    pub(crate) fn rows(&mut self, columns: u8, rows: &[Vec<String>]) {
        let mut number = 1;
        let mut send = |body: &[u8]| {
            self.packet(number, body);
            number += 1;
        };
        send(&[columns]);
        for _ in 0..columns {
            send(b"\x03def");
        }
        for row in rows {
            let body: Vec<u8> = row
                .iter()
                .flat_map(|text| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat())
                .collect();
            send(&body);
        }
        send(&[0xfe, 0, 0, 2, 0, 0, 0]);
    }
}

pub(crate) fn packets(bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for body in bodies {
        bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes()[..3]);
        bytes.push(0);
        bytes.extend_from_slice(body);
    }
    bytes
}

fn take(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 4];
    client.read_exact(&mut head).ok()?;
    let mut body = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    client.read_exact(&mut body).ok()?;
    Some(body)
}

const OK: [u8; 7] = [0, 0, 0, 2, 0, 0, 0];

fn serve(mut client: TcpStream, script: &Script, tell: &Tell) {
    let mut greeting = b"\x0a9.7.4\0\x01\0\0\0saltsalt\0\xff\xf7\xff\x02\0\xff\xdf\x15".to_vec();
    greeting.extend_from_slice(&[0; 10]);
    greeting.extend_from_slice(b"saltsaltsalt\0caching_sha2_password\0");
    let mut answer = Answer { socket: &mut client };
    answer.packet(0, &greeting);
    if take(&mut client).is_none() {
        return;
    }
    Answer { socket: &mut client }.packet(2, &OK);
    let mut is_cloning = false;
    while let Some(body) = take(&mut client) {
        let mut answer = Answer { socket: &mut client };
        match (is_cloning, body.first()) {
            (false, Some(3)) => {
                let text = String::from_utf8_lossy(&body[1..]);
                if !tell(&text, &mut answer) {
                    statement(&text, &mut answer);
                }
            }
            (false, Some(32)) => {
                is_cloning = true;
                answer.packet(1, &OK);
            }
            (true, Some(1 | 3)) => answer.all(&[locator(), vec![99]]),
            (true, Some(4)) => {
                script(&mut answer);
                // A client that waits for more than there is would wait for long.
                let _ = client.set_read_timeout(Some(Duration::from_millis(50)));
            }
            (true, Some(5)) => answer.all(&[vec![99]]),
            (true, Some(6)) => {
                is_cloning = false;
                answer.packet(0, &[99]);
            }
            _ => return,
        }
    }
}

fn statement(text: &str, answer: &mut Answer<'_>) {
    let row = |text: &str| vec![vec![text.to_owned()]];
    if text.starts_with("SET ") {
        answer.packet(1, &OK);
    } else if text.starts_with("SHOW GLOBAL VARIABLES") {
        let variables = [
            ("version", "9.7.4"),
            ("server_uuid", UUID),
            ("innodb_page_size", "16384"),
            ("innodb_data_file_path", "ibdata1:12M:autoextend"),
            ("gtid_mode", "ON"),
        ];
        let rows = variables.map(|(name, value)| vec![name.to_owned(), value.to_owned()]);
        answer.rows(2, &rows);
    } else if text.contains("@@server_uuid") {
        answer.rows(1, &row(UUID));
    } else if text.contains("gtid_executed") {
        answer.rows(1, &row(""));
    } else if text.contains("UNIX_TIMESTAMP") {
        answer.rows(1, &row("1795000000"));
    } else if text.contains("COUNT(*)") {
        answer.rows(1, &row("1"));
    } else {
        answer.rows(4, &[]);
    }
}

fn locator() -> Vec<u8> {
    let mut body = vec![1, 3, 1, 0, 0, 12, 34, 0, 0, 0];
    body.extend_from_slice(&words(&[100, 34, 1]));
    body.resize(10 + 34, 0);
    body
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A descriptor in its packet.
fn told(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(12 + body.len()).unwrap();
    [&[2, 12, 0][..], &words(&[100, length, kind]), body].concat()
}

pub(crate) const INIT: u32 = 1;
pub(crate) const FILE: u32 = 2;
pub(crate) const PAGE: u32 = 3;
pub(crate) const REDO: u32 = 4;
pub(crate) const DONE: u32 = 5;

pub(crate) fn task() -> Vec<u8> {
    told(2, &words(&[0, 0, 0]))
}

pub(crate) fn state(state: u32, flags: u16) -> Vec<u8> {
    told(3, &[words(&[state, 0, 1, 1, 0, 32_768, 0, 32_768]), flags.to_be_bytes().to_vec()].concat())
}

/// What a lie may be told about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct File<'a> {
    pub(crate) state: u32,
    pub(crate) size: u64,
    pub(crate) flags: u16,
    pub(crate) index: u32,
    pub(crate) name: &'a str,
}

pub(crate) fn file(file: File<'_>) -> Vec<u8> {
    let name = if file.name.is_empty() { Vec::new() } else { [file.name.as_bytes(), &[0]].concat() };
    let sizes = [file.size.to_be_bytes(), file.size.to_be_bytes()].concat();
    let length = u32::try_from(name.len()).unwrap();
    let body = [
        words(&[file.state]),
        sizes,
        words(&[0x4021, 4096]),
        file.flags.to_be_bytes().to_vec(),
        words(&[7 + file.index, file.index, file.index + 1, file.index + 1, length]),
        name,
    ];
    told(4, &body.concat())
}

pub(crate) fn announced(
    state: u32,
    chunk: (u32, u32),
    file: u32,
    length: u32,
    offset: u64,
    size: u64,
) -> Vec<u8> {
    let head = words(&[state, 0, chunk.0, chunk.1, file, length]);
    told(5, &[head, offset.to_be_bytes().to_vec(), size.to_be_bytes().to_vec()].concat())
}

pub(crate) fn bytes(count: usize) -> Vec<u8> {
    [vec![3], vec![0; count]].concat()
}

pub(crate) const GOOD: File<'static> =
    File { state: FILE, size: 32_768, flags: 0, index: 0, name: "./shop/orders.ibd" };

/// A small clone with nothing wrong in it.
pub(crate) fn good_clone() -> Vec<Vec<u8>> {
    vec![
        task(),
        state(INIT, 0),
        state(FILE, 1),
        file(GOOD),
        announced(FILE, (1, 1), 0, 16_384, 0, 32_768),
        bytes(16_384),
        announced(FILE, (1, 2), 0, 16_384, 16_384, 32_768),
        bytes(16_384),
        state(FILE, 0),
        state(PAGE, 1),
        announced(PAGE, (1, 1), 0, 16_384, 16_384, 32_768),
        bytes(16_384),
        state(PAGE, 0),
        state(REDO, 1),
        file(File { state: REDO, size: 65_536, name: "", ..GOOD }),
        announced(REDO, (2, 1), 0, 3_000, 2_048, 65_536),
        bytes(3_000),
        state(REDO, 0),
        state(DONE, 1),
        vec![99],
    ]
}
