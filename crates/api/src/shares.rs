//! How many requests of one project are worked on at once. One that asks a hundred times as often as the
//! others waits for itself: its requests queue behind one another, not before those of others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use strongroom_core::id::ProjectId;
use strongroom_core::{Error, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

type Known = HashMap<ProjectId, (Arc<Semaphore>, usize)>;

/// The places of each project. Nothing is kept of projects that ask for nothing.
#[derive(Clone)]
pub(crate) struct Shares {
    places: usize,
    known: Arc<Mutex<Known>>,
}

/// A request's place among those of its project, or in the queue for one.
pub(crate) struct Share {
    known: Arc<Mutex<Known>>,
    project: ProjectId,
    permit: Option<OwnedSemaphorePermit>,
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().expect("no thread panics while it holds the list of projects")
}

impl Shares {
    pub(crate) fn new(places: usize) -> Self {
        Self { places, known: Arc::default() }
    }

    /// Waits until fewer than so many of the project's requests are worked on. Who came first comes first.
    pub(crate) async fn take(&self, project: &ProjectId) -> Result<Share> {
        let places = {
            let mut known = lock(&self.known);
            let empty = || (Arc::new(Semaphore::new(self.places)), 0);
            let (places, users) = known.entry(project.clone()).or_insert_with(empty);
            *users += 1;
            places.clone()
        };
        // From here on it is given back whatever happens, also when the caller goes away while it waits.
        let mut share = Share { known: self.known.clone(), project: project.clone(), permit: None };
        share.permit = Some(places.acquire_owned().await.map_err(Error::internal)?);
        Ok(share)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.permit = None;
        let mut known = lock(&self.known);
        if let Some((_, users)) = known.get_mut(&self.project) {
            *users -= 1;
            if *users == 0 {
                known.remove(&self.project);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn project(digit: &str) -> ProjectId {
        ProjectId::parse(&digit.repeat(32)).expect("it is one")
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn a25_a_project_waits_for_itself_and_for_no_other() {
        let shares = Shares::new(2);
        let (ours, theirs) = (project("a"), project("b"));
        let first = shares.take(&ours).await.expect("a place is free");
        let _second = shares.take(&ours).await.expect("a place is free");
        let mut third = std::pin::pin!(shares.take(&ours));
        let mut fourth = std::pin::pin!(shares.take(&ours));
        assert!(poll(third.as_mut()).is_pending() && poll(fourth.as_mut()).is_pending());
        let _other = shares.take(&theirs).await.expect("nobody of theirs is at work");
        drop(first);
        assert!(poll(fourth.as_mut()).is_pending(), "the third came before");
        assert!(matches!(poll(third.as_mut()), Poll::Ready(Ok(_))));
    }

    #[tokio::test]
    async fn a25_nothing_is_kept_of_who_asks_for_nothing() {
        let shares = Shares::new(1);
        let ours = project("a");
        let first = shares.take(&ours).await.expect("a place is free");
        {
            let mut gone = Box::pin(shares.take(&ours));
            assert!(poll(gone.as_mut()).is_pending());
        }
        assert_eq!(lock(&shares.known).len(), 1);
        drop(first);
        assert!(lock(&shares.known).is_empty());
        shares.take(&ours).await.expect("its place is free again");
    }
}
