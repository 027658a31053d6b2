//! The streams that live: they are counted, and there is a bound to them. They outlive the control
//! connection that they came over, the link, and a reload.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;
use wayhome_core::name::Name;

/// As many as a gateway lets a home have, unless it is told otherwise. Each has two descriptors and
/// some 200 KiB while it moves.
const MOST: usize = 1024;

/// All streams of an agent.
#[derive(Debug, Default)]
pub struct Streams {
    tasks: Mutex<JoinSet<()>>,
    book: Arc<Mutex<Book>>,
}

#[derive(Debug, Default)]
struct Book {
    /// Places that are taken, by streams that are not yet let in too.
    taken: usize,
    /// Those that are joined with a service's target.
    serving: BTreeMap<Name, u32>,
}

impl Streams {
    /// A place for one more; `None` if there are as many as there may be.
    pub fn place(&self) -> Option<Place> {
        let mut book = self.book.lock().ok()?;
        if book.taken >= MOST {
            return None;
        }
        book.taken += 1;
        Some(Place { book: Arc::clone(&self.book), service: None })
    }

    /// Lets a stream run.
    pub fn spawn(&self, stream: impl Future<Output = ()> + Send + 'static) {
        if let Ok(mut tasks) = self.tasks.lock() {
            // Nobody waits for them; those that have ended are only cleared away.
            while tasks.try_join_next().is_some() {}
            tasks.spawn(stream);
        }
    }

    /// How many of each service there are.
    pub fn serving(&self) -> BTreeMap<Name, u32> {
        self.book.lock().map(|book| book.serving.clone()).unwrap_or_default()
    }
}

/// One stream's place, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    book: Arc<Mutex<Book>>,
    service: Option<Name>,
}

impl Place {
    /// The stream is let in, to this service.
    pub fn serves(&mut self, service: &Name) {
        if let Ok(mut book) = self.book.lock() {
            *book.serving.entry(service.clone()).or_default() += 1;
            self.service = Some(service.clone());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Ok(mut book) = self.book.lock() else { return };
        book.taken = book.taken.saturating_sub(1);
        let Some(service) = self.service.take() else { return };
        let count = book.serving.entry(service.clone()).or_default();
        *count = count.saturating_sub(1);
        if *count == 0 {
            book.serving.remove(&service);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_keeps_to_its_own_caps() {
        let streams = Streams::default();
        let mut places: Vec<Place> = (0..MOST).map(|_| streams.place().unwrap()).collect();
        assert!(streams.place().is_none());
        places.pop();
        let mut last = streams.place().unwrap();
        assert!(streams.place().is_none());
        assert!(streams.serving().is_empty(), "none of them is let in");
        let ssh: Name = "ssh".parse().unwrap();
        last.serves(&ssh);
        assert_eq!(streams.serving(), BTreeMap::from([(ssh, 1)]));
        drop(last);
        assert!(streams.serving().is_empty() && streams.place().is_some());
    }
}
