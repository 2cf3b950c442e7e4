//! Open connections, and which of them nobody would miss.
//!
//! A place is for work. Once all are taken, the connection that has been without a request for the
//! longest time makes way for a new one: ten thousand callers who say nothing keep nobody out.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use strongroom_core::{Error, Result};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The places of one listener.
#[derive(Clone)]
pub(crate) struct Connections {
    places: Arc<Semaphore>,
    waiting: Arc<Mutex<Waiting>>,
}

/// Connections without a request, by the order in which they became so.
#[derive(Default)]
struct Waiting {
    next: u64,
    since: BTreeMap<u64, Arc<Notify>>,
}

impl Waiting {
    fn ask_the_longest(&mut self) {
        if let Some((_, longest)) = self.since.pop_first() {
            longest.notify_one();
        }
    }
}

/// A connection's place; free again when it is dropped.
pub(crate) struct Place {
    waiting: Arc<Mutex<Waiting>>,
    /// Told when the place is wanted back.
    wanted: Arc<Notify>,
    /// The number under which it waits for a request.
    number: Mutex<Option<u64>>,
    _permit: OwnedSemaphorePermit,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it holds a list of connections")
}

impl Connections {
    pub(crate) fn new(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), waiting: Arc::default() }
    }

    /// A place for one more connection. When every connection is at work it waits for the first
    /// that ends; meanwhile the kernel keeps those who knock.
    pub(crate) async fn place(&self) -> Result<Place> {
        let permit = if let Ok(permit) = self.places.clone().try_acquire_owned() {
            permit
        } else {
            lock(&self.waiting).ask_the_longest();
            self.places.clone().acquire_owned().await.map_err(Error::internal)?
        };
        let place = Place {
            waiting: self.waiting.clone(),
            wanted: Arc::default(),
            number: Mutex::new(None),
            _permit: permit,
        };
        place.rest();
        Ok(place)
    }
}

impl Place {
    /// A request has come whole: the connection keeps its place until it is answered.
    pub(crate) fn work(&self) {
        if let Some(number) = lock(&self.number).take() {
            lock(&self.waiting).since.remove(&number);
        }
    }

    /// From now on it waits for the next request.
    pub(crate) fn rest(&self) {
        let mut waiting = lock(&self.waiting);
        let number = waiting.next;
        waiting.next += 1;
        waiting.since.insert(number, self.wanted.clone());
        drop(waiting);
        *lock(&self.number) = Some(number);
    }

    /// Until somebody else needs the place more.
    pub(crate) async fn is_wanted(&self) {
        loop {
            self.wanted.notified().await;
            if lock(&self.number).is_some() {
                return;
            }
            // Its request came in this very moment: another one must go.
            lock(&self.waiting).ask_the_longest();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.work();
    }
}

/// A request at work; the place rests again when this is dropped.
pub(crate) struct Busy(Arc<Place>);

impl Busy {
    pub(crate) fn new(place: &Arc<Place>) -> Self {
        place.work();
        Self(place.clone())
    }

    /// The same body, which is at work until it is sent or given up.
    pub(crate) const fn until_the_end_of(self, body: Body) -> AtWork {
        AtWork { body, _busy: self }
    }
}

/// The body of an answer under way.
pub(crate) struct AtWork {
    body: Body,
    _busy: Busy,
}

impl HttpBody for AtWork {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.rest();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a09_the_longest_without_a_request_makes_way_and_none_at_work() {
        let connections = Connections::new(3);
        let (first, second, third) = (
            connections.place().await.unwrap(),
            connections.place().await.unwrap(),
            connections.place().await.unwrap(),
        );
        first.work();
        let knocking = tokio::spawn({
            let connections = connections.clone();
            async move { connections.place().await.unwrap() }
        });
        timeout(SOON, second.is_wanted()).await.expect("the second has waited longest");
        assert!(timeout(SOON, third.is_wanted()).await.is_err());
        assert!(timeout(SOON, first.is_wanted()).await.is_err());
        assert!(!knocking.is_finished(), "there is no place before one is given up");
        drop(second);
        let fourth = knocking.await.unwrap();
        // The first is done by now, later than the third began to wait.
        first.rest();
        let knocking = tokio::spawn({
            let connections = connections.clone();
            async move { connections.place().await.unwrap() }
        });
        timeout(SOON, third.is_wanted()).await.expect("now the third has");
        drop(third);
        knocking.await.unwrap();
        drop((first, fourth));
        assert!(lock(&connections.waiting).since.is_empty(), "nobody is left on the list");
    }

    #[tokio::test]
    async fn a09_one_whose_request_comes_as_it_is_asked_stays_and_the_next_goes() {
        let connections = Connections::new(2);
        let (first, second) = (connections.place().await.unwrap(), connections.place().await.unwrap());
        let knocking = tokio::spawn({
            let connections = connections.clone();
            async move { connections.place().await.unwrap() }
        });
        let asked = async {
            while lock(&connections.waiting).since.len() > 1 {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, asked).await.expect("one is asked to go");
        first.work();
        let (stays, goes) = tokio::join!(timeout(SOON, first.is_wanted()), timeout(SOON, second.is_wanted()));
        assert!(stays.is_err() && goes.is_ok());
        drop(second);
        knocking.await.unwrap();
    }

    #[tokio::test]
    async fn a09_when_all_are_at_work_a_new_one_waits() {
        let connections = Connections::new(1);
        let only = connections.place().await.unwrap();
        only.work();
        assert!(timeout(SOON, connections.place()).await.is_err());
        assert!(timeout(SOON, only.is_wanted()).await.is_err());
        drop(only);
        timeout(SOON, connections.place()).await.expect("the place is free").unwrap();
    }
}
