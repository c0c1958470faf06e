//! Nothing: every call is answered at once, so that what is measured is the bench itself.

use std::rc::Rc;

use bytes::Bytes;
use tokio::task::yield_now;

use super::{Failure, Found, Source, Target};
use crate::keys::Names;
use crate::values::Values;

/// No store at all. Every key has its value, and a call waits its turn among the runtime's tasks, as any call must.
#[derive(Clone)]
pub struct Nothing {
    names: Rc<Names>,
    values: Rc<Values>,
}

impl Nothing {
    /// Answers about keys with this prefix.
    pub fn new(prefix: &str, value_bytes: usize) -> Nothing {
        Nothing { names: Rc::new(Names::new(prefix)), values: Rc::new(Values::new(value_bytes)) }
    }

    fn found(&self, key: &Bytes) -> Result<Option<Found>, Failure> {
        let bytes = self.values.of(self.names.number(key));
        Ok(Some(Found { bytes, version: 0 }))
    }
}

impl Target for Nothing {
    async fn get(&self, key: Bytes) -> Result<Option<Found>, Failure> {
        yield_now().await;
        self.found(&key)
    }

    async fn put(&self, _key: Bytes, _value: Bytes) -> Result<u64, Failure> {
        yield_now().await;
        Ok(0)
    }

    async fn delete(&self, _key: Bytes) -> Result<u64, Failure> {
        yield_now().await;
        Ok(0)
    }

    async fn get_many(&self, keys: Vec<Bytes>) -> impl Iterator<Item = Result<Option<Found>, Failure>> {
        yield_now().await;
        let own = self.clone();
        keys.into_iter().map(move |key| own.found(&key))
    }

    async fn put_many(&self, pairs: Vec<(Bytes, Bytes)>) -> impl Iterator<Item = Result<u64, Failure>> {
        yield_now().await;
        pairs.into_iter().map(|_| Ok(0))
    }
}

/// Makes [`Nothing`]: prefix of the keys, bytes of a value.
#[derive(Clone)]
pub struct Nowhere(pub String, pub usize);

impl Source for Nowhere {
    type Target = Nothing;

    async fn connect(&self) -> anyhow::Result<Nothing> {
        Ok(Nothing::new(&self.0, self.1))
    }
}
