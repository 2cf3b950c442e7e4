//! A store that fails, freezes or dies at a chosen call, as seen by one process.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use strongroom_core::{Error, ErrorKind, Result};
use strongroom_repository::{Listed, MemoryStore, Put, PutStream, Store};

/// Which call is hit, once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    /// The n-th call, counted from 1.
    Call(usize),
    /// The first call of this name on a key that holds this text.
    On(&'static str, &'static str),
    /// As `On`, the n-th one, counted from 1.
    Nth(usize, &'static str, &'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The process ends: no call of it has an effect any more.
    Die,
    /// This one call fails.
    Fail,
    /// The calling thread stands still until it is released.
    Freeze,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    /// The call has no effect.
    Before,
    /// The call took effect, and its answer is lost.
    After,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) when: When,
    pub(crate) what: What,
    pub(crate) edge: Edge,
}

/// Where a thread stands still until a test lets it go on.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

/// Longer than anything here takes; only a broken test waits for so long.
const PATIENCE: Duration = Duration::from_mins(1);

impl Gate {
    fn wait_for(&self, what: impl Fn(&(bool, bool)) -> bool) {
        let until = Instant::now() + PATIENCE;
        let mut state = self.state.lock().unwrap();
        while !what(&state) {
            assert!(Instant::now() < until, "nobody came to the gate");
            state = self.changed.wait_timeout(state, Duration::from_secs(1)).unwrap().0;
        }
    }

    /// Called by the thread that is to stand still.
    pub(crate) fn stand(&self) {
        self.state.lock().unwrap().0 = true;
        self.changed.notify_all();
        self.wait_for(|(_, released)| *released);
    }

    pub(crate) fn has_arrived(&self) -> bool {
        self.state.lock().unwrap().0
    }

    /// Waits until the thread has come. Blocks.
    pub(crate) fn arrived(&self) {
        self.wait_for(|(arrived, _)| *arrived);
    }

    pub(crate) fn release(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

type AtDeath = Box<dyn Fn() + Send + Sync>;

/// One process's view of the objects.
pub(crate) struct FaultyStore {
    objects: MemoryStore,
    fault: Mutex<Option<Fault>>,
    calls: AtomicUsize,
    likes: AtomicUsize,
    dead: AtomicBool,
    at_death: Mutex<Option<AtDeath>>,
    pub(crate) gate: Arc<Gate>,
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").field("fault", &self.fault).finish_non_exhaustive()
    }
}

impl FaultyStore {
    pub(crate) fn new(objects: MemoryStore) -> Arc<Self> {
        Arc::new(Self {
            objects,
            fault: Mutex::new(None),
            calls: AtomicUsize::new(0),
            likes: AtomicUsize::new(0),
            dead: AtomicBool::new(false),
            at_death: Mutex::new(None),
            gate: Arc::default(),
        })
    }

    /// From now on: counts calls anew and does this at the chosen one.
    pub(crate) fn arm(&self, fault: Fault) {
        self.calls.store(0, Ordering::SeqCst);
        self.likes.store(0, Ordering::SeqCst);
        *self.fault.lock().unwrap() = Some(fault);
    }

    /// Whether the fault was met.
    pub(crate) fn has_struck(&self) -> bool {
        self.fault.lock().unwrap().is_none()
    }

    pub(crate) fn at_death(&self, act: impl Fn() + Send + Sync + 'static) {
        *self.at_death.lock().unwrap() = Some(Box::new(act));
    }

    fn alive(&self) -> Result<()> {
        if self.dead.load(Ordering::SeqCst) { Err(gone("the process is dead")) } else { Ok(()) }
    }

    fn strike(&self, what: What) -> Result<()> {
        match what {
            What::Freeze => {
                self.gate.stand();
                Ok(())
            }
            What::Fail => Err(gone("this call fails")),
            What::Die => {
                self.dead.store(true, Ordering::SeqCst);
                if let Some(act) = &*self.at_death.lock().unwrap() {
                    act();
                }
                Err(gone("the process is dead"))
            }
        }
    }

    fn call<T>(&self, name: &str, key: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
        self.alive()?;
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let mut fault = self.fault.lock().unwrap();
        let is_hit = fault.as_ref().is_some_and(|fault| match fault.when {
            When::Call(wanted) => wanted == number,
            When::On(wanted, part) => wanted == name && key.contains(part),
            When::Nth(number, wanted, part) => {
                let is_like = wanted == name && key.contains(part);
                is_like && self.likes.fetch_add(1, Ordering::SeqCst) + 1 == number
            }
        });
        let hit = if is_hit { fault.take() } else { None };
        drop(fault);
        match hit {
            None => call().and_then(|value| self.alive().map(|()| value)),
            Some(Fault { what, edge: Edge::Before, .. }) => {
                self.strike(what)?;
                self.alive()?;
                call()
            }
            Some(Fault { what, edge: Edge::After, .. }) => {
                let value = call()?;
                self.strike(what)?;
                Ok(value)
            }
        }
    }
}

fn gone(why: &str) -> Error {
    Error::new(ErrorKind::Unavailable, "The repository cannot be used.").with_source(why)
}

/// The store as a repository takes it.
#[derive(Debug, Clone)]
pub(crate) struct View(pub(crate) Arc<FaultyStore>);

impl Store for View {
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Put> {
        self.0.call("put_new", key, || self.0.objects.put_new(key, bytes))
    }

    fn begin_put(&self, key: &str) -> Result<Box<dyn PutStream>> {
        let stream = self.0.call("begin_put", key, || self.0.objects.begin_put(key))?;
        Ok(Box::new(ViewPut { store: self.0.clone(), key: key.to_owned(), stream }))
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.0.call("get", key, || self.0.objects.get(key))
    }

    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
        self.0.call("get_range", key, || self.0.objects.get_range(key, offset, length))
    }

    fn head(&self, key: &str) -> Result<Option<u64>> {
        self.0.call("head", key, || self.0.objects.head(key))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.0.call("list", prefix, || self.0.objects.list(prefix))
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.0.call("delete", key, || self.0.objects.delete(key))
    }

    fn free_bytes(&self) -> Result<Option<u64>> {
        self.0.objects.free_bytes()
    }
}

struct ViewPut {
    store: Arc<FaultyStore>,
    key: String,
    stream: Box<dyn PutStream>,
}

impl PutStream for ViewPut {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.store.alive()?;
        self.stream.append(bytes)
    }

    fn commit(self: Box<Self>) -> Result<Put> {
        let Self { store, key, stream } = *self;
        store.call("commit", &key, || stream.commit())
    }
}
