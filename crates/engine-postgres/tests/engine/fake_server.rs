//! A server that speaks just enough of the protocol to lie.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};

pub(crate) const SYSTEM: u64 = 7_438_910_573_451_234_567;
const SEGMENT_SIZE: u64 = 1 << 20;
/// Where the faked backup starts and stops, both in segment 5.
pub(crate) const START: u64 = 5 * SEGMENT_SIZE + 0x28;
pub(crate) const STOP: u64 = 5 * SEGMENT_SIZE + 0x100;

/// What is said in answer to `BASE_BACKUP`, as raw messages.
pub(crate) type Script = Arc<dyn Fn(&mut Answer<'_>) + Send + Sync>;

pub(crate) struct FakeServer {
    port: u16,
    is_closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Who the fake says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guise {
    Fifteen,
    /// One that notes which blocks its log changes.
    Eighteen,
    /// The same, but it takes no manifest.
    EighteenRefusing,
}

impl FakeServer {
    pub(crate) fn start(script: Script) -> Self {
        Self::start_as(Guise::Fifteen, script)
    }

    pub(crate) fn start_as(guise: Guise, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_closing = Arc::new(AtomicBool::new(false));
        let closing = Arc::clone(&is_closing);
        let thread = std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if closing.load(Ordering::Acquire) {
                    return;
                }
                let script = Arc::clone(&script);
                std::thread::spawn(move || serve(client, guise, &script));
            }
        });
        Self { port, is_closing, thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.is_closing.store(true, Ordering::Release);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Builds the answer to a command. What the client no longer reads is not an error here.
pub(crate) struct Answer<'s> {
    socket: &'s mut TcpStream,
    /// The changes since an earlier backup were asked for.
    pub(crate) is_incremental: bool,
}

impl Answer<'_> {
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    pub(crate) fn hang_up(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }

    pub(crate) fn message(&mut self, tag: u8, body: &[u8]) -> bool {
        let length = u32::try_from(body.len() + 4).unwrap();
        self.raw(&[&[tag][..], &length.to_be_bytes(), body].concat())
    }

    pub(crate) fn row(&mut self, fields: &[Option<&str>]) {
        let mut body = u16::try_from(fields.len()).unwrap().to_be_bytes().to_vec();
        for field in fields {
            match field {
                None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
                Some(text) => {
                    body.extend_from_slice(&i32::try_from(text.len()).unwrap().to_be_bytes());
                    body.extend_from_slice(text.as_bytes());
                }
            }
        }
        self.message(b'D', &body);
    }

    pub(crate) fn result(&mut self, rows: &[&[Option<&str>]]) {
        self.message(b'T', &[0, 0]);
        for row in rows {
            self.row(row);
        }
        self.message(b'C', b"SELECT\0");
    }

    pub(crate) fn ready(&mut self) {
        self.message(b'Z', b"I");
    }

    pub(crate) fn position(&mut self, position: u64, timeline: &str) {
        self.result(&[&[Some(&lsn(position)), Some(timeline)]]);
    }

    /// The two results before the copy, and its beginning.
    pub(crate) fn announce(&mut self) {
        self.position(START, "1");
        self.result(&[&[None, None, Some("100")]]);
        self.message(b'H', &[0, 0, 0]);
    }

    pub(crate) fn archive(&mut self, name: &str) {
        self.message(b'd', format!("n{name}\0\0").as_bytes());
    }

    /// Data of an archive or manifest, in pieces.
    pub(crate) fn data(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(30_000) {
            self.message(b'd', &[b"d", piece].concat());
        }
    }

    /// A whole backup of the given files.
    pub(crate) fn backup(&mut self, files: &[(&str, Vec<u8>)]) {
        self.announce();
        self.archive("base.tar");
        self.data(&tar(files));
        self.message(b'd', b"m");
        self.data(&manifest(files));
        self.end();
    }

    pub(crate) fn end(&mut self) {
        self.message(b'c', b"");
        self.position(STOP, "1");
        self.message(b'C', b"BASE_BACKUP\0");
        self.ready();
    }
}

pub(crate) fn lsn(position: u64) -> String {
    format!("{:X}/{:X}", position >> 32, position & 0xffff_ffff)
}

/// The files that every backup has.
pub(crate) fn good_files() -> Vec<(&'static str, Vec<u8>)> {
    let mut control = SYSTEM.to_le_bytes().to_vec();
    control.resize(8192, 1);
    vec![
        ("backup_label", b"START WAL LOCATION: 0/500028 (file 000000010000000000000005)\n".to_vec()),
        ("tablespace_map", Vec::new()),
        ("PG_VERSION", b"15\n".to_vec()),
        ("base/5/1259", vec![0; 8192 * 3]),
        ("global/pg_control", control),
    ]
}

pub(crate) fn header(name: &[u8], kind: u8, size: u64, mode: u32) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name);
    header[100..107].copy_from_slice(format!("{mode:07o}").as_bytes());
    header[124] = 0x80;
    header[128..136].copy_from_slice(&size.to_be_bytes());
    header[136..147].copy_from_slice(b"15000000000");
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header
}

pub(crate) fn tar(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in files {
        bytes.extend_from_slice(&header(name.as_bytes(), b'0', content.len() as u64, 0o600));
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

pub(crate) fn manifest(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entry = |(name, content): &(&str, Vec<u8>)| {
        let sum = hex::encode(crc32c::crc32c(content).to_le_bytes());
        format!(
            "{{ \"Path\": \"{name}\", \"Size\": {}, \"Last-Modified\": \"2026-01-01 00:00:00 GMT\", \
             \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"{sum}\" }}",
            content.len()
        )
    };
    let list: Vec<_> = files.iter().map(entry).collect();
    let text = format!(
        "{{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n{}\n],\n\"WAL-Ranges\": [\n\
         {{ \"Timeline\": 1, \"Start-LSN\": \"{}\", \"End-LSN\": \"{}\" }}\n],\n",
        list.join(",\n"),
        lsn(START),
        lsn(STOP)
    );
    let sum = hex::encode(Sha256::digest(text.as_bytes()));
    format!("{text}\"Manifest-Checksum\": \"{sum}\"}}\n").into_bytes()
}

fn serve(mut client: TcpStream, guise: Guise, script: &Script) {
    let mut length = [0; 4];
    if client.read_exact(&mut length).is_err() {
        return;
    }
    let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
    client.read_exact(&mut startup).unwrap();
    let mut answer = Answer { socket: &mut client, is_incremental: false };
    answer.message(b'R', &[0; 4]);
    answer.ready();
    while let Some(command) = next_command(&mut client) {
        answer_command(&command, &mut client, guise, script);
    }
}

/// The next query; other messages of the client are taken and ignored.
fn next_command(client: &mut TcpStream) -> Option<String> {
    loop {
        let mut head = [0; 5];
        client.read_exact(&mut head).ok()?;
        let mut body = vec![0; u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4];
        client.read_exact(&mut body).ok()?;
        match head[0] {
            b'Q' => return Some(String::from_utf8(body).unwrap().trim_end_matches('\0').to_owned()),
            b'X' => return None,
            b'c' => {
                let mut answer = Answer { socket: client, is_incremental: false };
                answer.message(b'c', b"");
                answer.message(b'C', b"START_REPLICATION\0");
                answer.ready();
            }
            _ => {}
        }
    }
}

/// Takes a manifest to its end and throws it away.
fn take_upload(client: &mut TcpStream, is_refusing: bool) {
    let mut answer = Answer { socket: client, is_incremental: false };
    if is_refusing {
        answer.message(b'E', b"SERROR\0VERROR\0C0A000\0Mno manifests today\0\0");
        return answer.ready();
    }
    answer.message(b'G', &[0, 0, 0]);
    loop {
        let mut head = [0; 5];
        if answer.socket.read_exact(&mut head).is_err() {
            return;
        }
        let mut body = vec![0; u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4];
        answer.socket.read_exact(&mut body).unwrap();
        if head[0] == b'c' {
            answer.message(b'C', b"UPLOAD_MANIFEST\0");
            return answer.ready();
        }
    }
}

fn answer_command(command: &str, client: &mut TcpStream, guise: Guise, script: &Script) {
    if command == "UPLOAD_MANIFEST" {
        return take_upload(client, guise == Guise::EighteenRefusing);
    }
    let mut answer = Answer { socket: client, is_incremental: command.contains("INCREMENTAL true") };
    let system = SYSTEM.to_string();
    let (start, now) = (lsn(START), lsn(STOP));
    match command.split(' ').next().unwrap() {
        "IDENTIFY_SYSTEM" => answer.result(&[&[Some(&system), Some("1"), Some(&now), None]]),
        "SHOW" => answer.result(&[&[Some(setting(&command[5..], guise))]]),
        "READ_REPLICATION_SLOT" => answer.result(&[&[Some("physical"), Some(&start), Some("1")]]),
        "BASE_BACKUP" => return script(&mut answer),
        "START_REPLICATION" => {
            answer.message(b'W', &[0, 0, 0]);
            let mut segment = vec![0; 0x2000];
            segment[8..16].copy_from_slice(&(5 * SEGMENT_SIZE).to_le_bytes());
            segment[24..32].copy_from_slice(&SYSTEM.to_le_bytes());
            segment[32..36].copy_from_slice(&u32::try_from(SEGMENT_SIZE).unwrap().to_le_bytes());
            let head = [&b"w"[..], &(5 * SEGMENT_SIZE).to_be_bytes(), &[0; 16]].concat();
            answer.message(b'd', &[head, segment].concat());
            return;
        }
        _ => answer.result(&[]),
    }
    answer.ready();
}

fn setting(name: &str, guise: Guise) -> &'static str {
    match name {
        "server_version_num" if guise == Guise::Fifteen => "150018",
        "server_version_num" => "180006",
        "block_size" | "wal_block_size" => "8192",
        "segment_size" => "1GB",
        "wal_segment_size" => "1MB",
        "data_checksums" | "summarize_wal" => "on",
        "data_directory_mode" => "0700",
        "wal_level" => "replica",
        "in_hot_standby" => "off",
        _ => "10",
    }
}
