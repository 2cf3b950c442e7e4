//! A way to a server that can be cut.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use strongroom_testkit::line;

/// Where one connection ends: the how many-th it is, and after how many bytes of the server's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    pub(crate) connection: usize,
    pub(crate) after: u64,
}

#[derive(Default)]
struct State {
    cuts: Mutex<Vec<Cut>>,
    connections: AtomicUsize,
    /// Bytes from the server, by connection.
    brought: Mutex<Vec<Arc<AtomicU64>>>,
    is_closing: AtomicBool,
}

pub(crate) struct Proxy {
    port: u16,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(crate) fn start(server: u16, cuts: &[Cut]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State { cuts: Mutex::new(cuts.to_vec()), ..State::default() });
        let thread = std::thread::spawn({
            let state = Arc::clone(&state);
            move || {
                while let Ok((client, _)) = listener.accept() {
                    if state.is_closing.load(Ordering::Acquire) {
                        return;
                    }
                    let number = state.connections.fetch_add(1, Ordering::AcqRel);
                    let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                    connect(&state, number, client, server);
                }
            }
        });
        Self { port, state, thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Acquire)
    }

    /// How many bytes the server sent on a connection.
    pub(crate) fn brought(&self, connection: usize) -> u64 {
        self.state.brought.lock().unwrap()[connection].load(Ordering::Acquire)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.is_closing.store(true, Ordering::Release);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn connect(state: &Arc<State>, number: usize, client: TcpStream, server: TcpStream) {
    let brought = Arc::new(AtomicU64::new(0));
    state.brought.lock().unwrap().push(Arc::clone(&brought));
    let limit = {
        let cuts = state.cuts.lock().unwrap();
        cuts.iter().find(|cut| cut.connection == number).map_or(u64::MAX, |cut| cut.after)
    };
    let (from_client, to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        pass(&from_client, &to_server, u64::MAX, &AtomicU64::new(0));
        line::end(&from_client, &to_server);
    });
    std::thread::spawn(move || {
        pass(&server, &client, limit, &brought);
        line::end(&client, &server);
    });
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, limit: u64, passed: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = from.read(&mut buffer) {
        let left = limit - passed.load(Ordering::Acquire);
        let count = usize::try_from(left.min(count as u64)).unwrap();
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
        // At its limit at once: nothing more may ever come that it would be noticed with.
        if passed.fetch_add(count as u64, Ordering::AcqRel) + count as u64 == limit {
            break;
        }
    }
}
