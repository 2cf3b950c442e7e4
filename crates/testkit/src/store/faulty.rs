//! The store itself: one process's view of the objects.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use strongroom_core::{Error, ErrorKind, Result};
use strongroom_repository::{Listed, Put, PutStream, Store};

use super::gate::Gate;
use super::plan::{Call, Edge, Fault, Lie, Operation, What, When, kind_of};
use super::put::FaultyPut;
use super::seals::Seals;

/// Long beside a call, short beside a lease.
const SLOW: Duration = Duration::from_millis(30);

type AtDeath = Box<dyn Fn() + Send + Sync>;

/// Lets calls through to another store, but for those that its plan names. Clones are the same.
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<Inner>,
}

struct Inner {
    objects: Arc<dyn Store>,
    book: Mutex<Book>,
    dead: AtomicBool,
    at_death: Mutex<Option<AtDeath>>,
    gate: Arc<Gate>,
    seals: Seals,
}

/// What was done, and what is still to go wrong.
#[derive(Debug, Default)]
struct Book {
    calls: Vec<Call>,
    plan: Vec<Fault>,
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").field("plan", &self.book().plan).finish_non_exhaustive()
    }
}

impl FaultyStore {
    pub fn new(objects: Arc<dyn Store>) -> Self {
        Self::with_seals(objects, Seals::default())
    }

    /// As [`FaultyStore::new`], with a book of seals that outlives it.
    pub fn with_seals(objects: Arc<dyn Store>, seals: Seals) -> Self {
        let inner = Inner {
            objects,
            book: Mutex::default(),
            dead: AtomicBool::new(false),
            at_death: Mutex::default(),
            gate: Arc::default(),
            seals,
        };
        Self { inner: Arc::new(inner) }
    }

    /// From now on: counts calls anew and does this at the chosen one.
    pub fn arm(&self, fault: Fault) {
        *self.book() = Book { calls: Vec::new(), plan: vec![fault] };
    }

    /// From now on: counts calls anew, and nothing goes wrong.
    pub fn disarm(&self) {
        *self.book() = Book::default();
    }

    /// Whether every fault of the plan was met.
    pub fn has_struck(&self) -> bool {
        self.book().plan.is_empty()
    }

    /// The calls since the plan was made.
    pub fn calls(&self) -> Vec<Call> {
        self.book().calls.clone()
    }

    /// What ends with the process beside its store, such as its connections.
    pub fn at_death(&self, act: impl Fn() + Send + Sync + 'static) {
        *self.at_death_slot() = Some(Box::new(act));
    }

    /// Ends the process now: no call has an effect any more.
    pub fn die(&self) {
        self.inner.dead.store(true, Ordering::SeqCst);
        if let Some(act) = &*self.at_death_slot() {
            act();
        }
    }

    pub fn gate(&self) -> Arc<Gate> {
        self.inner.gate.clone()
    }

    pub fn seals(&self) -> &Seals {
        &self.inner.seals
    }

    pub(super) fn objects(&self) -> &dyn Store {
        &*self.inner.objects
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.inner.book.lock().expect("no thread panics while it holds the book")
    }

    fn at_death_slot(&self) -> MutexGuard<'_, Option<AtDeath>> {
        self.inner.at_death.lock().expect("no thread panics while its process ends")
    }

    fn alive(&self) -> Result<()> {
        if self.inner.dead.load(Ordering::SeqCst) { Err(refused("the process is dead")) } else { Ok(()) }
    }

    /// Writes the call down and answers the fault that hits it, if one does.
    fn meet(&self, operation: Operation, key: &str) -> Option<Fault> {
        let mut book = self.book();
        book.calls.push(Call { operation, key: key.to_owned() });
        let alike = |matches: &dyn Fn(&Call) -> bool| {
            let is_it = book.calls.last().is_some_and(matches);
            if is_it { book.calls.iter().filter(|call| matches(call)).count() } else { 0 }
        };
        let is_hit = |fault: &Fault| match fault.when {
            When::Call(number) => book.calls.len() == number,
            When::On(wanted, part) => alike(&|call| call.operation == wanted && call.key.contains(part)) > 0,
            When::Nth(number, wanted, part) => {
                alike(&|call| call.operation == wanted && call.key.contains(part)) == number
            }
            When::NthOfKind(number, wanted, kind) => {
                alike(&|call| call.operation == wanted && kind_of(&call.key) == kind) == number
            }
        };
        let at = book.plan.iter().position(is_hit)?;
        Some(book.plan.remove(at))
    }

    fn strike(&self, what: What) -> Result<()> {
        match what {
            What::Freeze => {
                self.inner.gate.stand();
                Ok(())
            }
            What::Slow => {
                std::thread::park_timeout(SLOW);
                Ok(())
            }
            What::Fail => Err(refused("this call fails")),
            What::FailAs(kind) => Err(Error::new(kind, "The store refused this call; the test wants it so.")),
            What::Die => {
                self.die();
                Err(refused("the process is dead"))
            }
            What::Lie(_) => Ok(()),
        }
    }

    /// One call: `act` is the truth, `lie` what happens instead.
    pub(super) fn call<T>(
        &self,
        operation: Operation,
        key: &str,
        act: impl FnOnce() -> Result<T>,
        lie: impl FnOnce(Lie) -> Option<Result<T>>,
    ) -> Result<T> {
        self.alive()?;
        match self.meet(operation, key) {
            None => act().and_then(|value| self.alive().map(|()| value)),
            Some(Fault { what: What::Lie(how), .. }) => lie(how).unwrap_or_else(act),
            Some(Fault { what, edge: Edge::Before, .. }) => {
                self.strike(what)?;
                self.alive()?;
                act()
            }
            Some(Fault { what, edge: Edge::After, .. }) => {
                let value = act()?;
                self.strike(what)?;
                Ok(value)
            }
        }
    }

    /// The lies of a put, whose bytes are all there.
    pub(super) fn lying_put(&self, key: &str, bytes: &[u8], how: Lie) -> Option<Result<Put>> {
        let store = |bytes: &[u8]| self.objects().put_new(key, bytes).map(|_| Put::Created);
        match how {
            Lie::Torn => {
                Some(store(&bytes[..bytes.len() / 2]).and(Err(refused("the put was cut in its middle"))))
            }
            Lie::Truncated => Some(store(&bytes[..bytes.len() / 2])),
            Lie::Lost => Some(Ok(Put::Created)),
            Lie::Taken => Some(Ok(Put::AlreadyThere)),
            Lie::Others => Some(store(&flipped(bytes.to_vec()))),
            _ => None,
        }
    }

    fn lying_read(
        &self,
        key: &str,
        how: Lie,
        read: impl Fn(&str) -> Result<Option<Vec<u8>>>,
    ) -> Option<Result<Option<Vec<u8>>>> {
        let changed = |change: fn(Vec<u8>) -> Vec<u8>| Some(read(key).map(|found| found.map(change)));
        match how {
            Lie::Short => changed(|mut bytes| {
                bytes.truncate(bytes.len() / 2);
                bytes
            }),
            Lie::Flipped => changed(flipped),
            Lie::Zeroed => changed(|bytes| vec![0; bytes.len()]),
            Lie::Absent => Some(Ok(None)),
            Lie::Sibling => {
                let (folder, _) = key.rsplit_once('/')?;
                let listed = self.objects().list(&format!("{folder}/")).ok()?;
                let sibling = listed.into_iter().find(|object| object.key != key)?;
                Some(read(&sibling.key))
            }
            _ => None,
        }
    }
}

fn flipped(mut bytes: Vec<u8>) -> Vec<u8> {
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 0x10;
    }
    bytes
}

pub(super) fn refused(why: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, "The repository cannot be used.").with_source(why)
}

impl Store for FaultyStore {
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Put> {
        self.inner.seals.note_object(key, bytes);
        self.call(
            Operation::PutNew,
            key,
            || self.objects().put_new(key, bytes),
            |how| self.lying_put(key, bytes, how),
        )
    }

    fn begin_put(&self, key: &str) -> Result<Box<dyn PutStream>> {
        let begin = || self.objects().begin_put(key);
        let inner = self.call(Operation::BeginPut, key, begin, |_| None)?;
        Ok(Box::new(FaultyPut::new(self.clone(), key, inner)))
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let read = |key: &str| self.objects().get(key);
        self.call(Operation::Get, key, || read(key), |how| self.lying_read(key, how, read))
    }

    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
        let read = |key: &str| self.objects().get_range(key, offset, length);
        self.call(Operation::GetRange, key, || read(key), |how| self.lying_read(key, how, read))
    }

    fn head(&self, key: &str) -> Result<Option<u64>> {
        let read = || self.objects().head(key);
        self.call(Operation::Head, key, read, |how| match how {
            Lie::Short => Some(read().map(|size| size.map(|size| size / 2))),
            Lie::Absent => Some(Ok(None)),
            _ => None,
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let read = || self.objects().list(prefix);
        self.call(Operation::List, prefix, read, |how| match how {
            Lie::Blind => Some(read().map(|mut listed| {
                listed.pop();
                listed
            })),
            _ => None,
        })
    }

    fn delete(&self, key: &str) -> Result<()> {
        let delete = || self.objects().delete(key);
        self.call(Operation::Delete, key, delete, |how| (how == Lie::Lost).then_some(Ok(())))
    }

    fn free_bytes(&self) -> Result<Option<u64>> {
        self.objects().free_bytes()
    }

    fn is_read_only(&self) -> bool {
        self.objects().is_read_only()
    }
}
