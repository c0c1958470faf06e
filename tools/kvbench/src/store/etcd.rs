//! etcd, through its gRPC interface. A batch is one transaction; reads are linearizable, which is etcd's default.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use etcd_client::{Client, ConnectOptions, Error, KeyValue, KvClient, Txn, TxnOp, TxnOpResponse};

use super::{Failure, Found, Source, Target};

/// Operations that etcd takes in one transaction unless it is told otherwise.
const TRANSACTION_MAX: usize = 128;

/// A client of etcd: one connection, on which calls travel side by side.
#[derive(Clone)]
pub struct Etcd {
    client: KvClient,
}

fn read_failed(error: &Error) -> Failure {
    tracing::info!(%error, "a read failed");
    Failure::NotApplied
}

/// What became of a write that failed is never sure.
fn write_failed(error: &Error) -> Failure {
    tracing::info!(%error, "a write failed");
    Failure::Unknown
}

fn found(pair: &KeyValue) -> Found {
    Found {
        bytes: Bytes::copy_from_slice(pair.value()),
        version: u64::try_from(pair.mod_revision()).unwrap_or_default(),
    }
}

fn revision(header: Option<&etcd_client::ResponseHeader>) -> u64 {
    header.and_then(|header| u64::try_from(header.revision()).ok()).unwrap_or_default()
}

impl Target for Etcd {
    async fn get(&self, key: Bytes) -> Result<Option<Found>, Failure> {
        let got = self.client.clone().get(key, None).await.map_err(|error| read_failed(&error))?;
        Ok(got.kvs().first().map(found))
    }

    async fn put(&self, key: Bytes, value: Bytes) -> Result<u64, Failure> {
        let put = self.client.clone().put(key, value, None).await.map_err(|error| write_failed(&error))?;
        Ok(revision(put.header()))
    }

    async fn delete(&self, key: Bytes) -> Result<u64, Failure> {
        let deleted = self.client.clone().delete(key, None).await.map_err(|error| write_failed(&error))?;
        Ok(revision(deleted.header()))
    }

    async fn get_many(&self, keys: Vec<Bytes>) -> impl Iterator<Item = Result<Option<Found>, Failure>> {
        let mut answers = VecDeque::with_capacity(keys.len());
        for chunk in keys.chunks(TRANSACTION_MAX) {
            let gets: Vec<TxnOp> = chunk.iter().map(|key| TxnOp::get(key.clone(), None)).collect();
            match self.client.clone().txn(Txn::new().and_then(gets)).await {
                Ok(done) => answers.extend(done.op_responses().into_iter().map(|answer| match answer {
                    TxnOpResponse::Get(got) => Ok(got.kvs().first().map(found)),
                    _ => Err(Failure::NotApplied),
                })),
                Err(error) => answers.extend(chunk.iter().map(|_| Err(read_failed(&error)))),
            }
        }
        answers.into_iter()
    }

    async fn put_many(&self, pairs: Vec<(Bytes, Bytes)>) -> impl Iterator<Item = Result<u64, Failure>> {
        let mut answers = VecDeque::with_capacity(pairs.len());
        for chunk in pairs.chunks(TRANSACTION_MAX) {
            // A transaction may name a key once.
            let distinct: BTreeMap<&Bytes, &Bytes> = chunk.iter().map(|(key, value)| (key, value)).collect();
            let puts = distinct.into_iter().map(|(key, value)| TxnOp::put(key.clone(), value.clone(), None));
            let done = self.client.clone().txn(Txn::new().and_then(puts.collect::<Vec<_>>())).await;
            let answer = done.map(|done| revision(done.header())).map_err(|error| write_failed(&error));
            answers.extend(chunk.iter().map(|_| answer));
        }
        answers.into_iter()
    }
}

/// Connects to etcd.
#[derive(Clone)]
pub struct EtcdSource {
    endpoints: Vec<String>,
    timeout: Duration,
}

impl EtcdSource {
    /// `HOST:PORT`, several separated by commas.
    pub fn new(endpoints: &str, timeout: Duration) -> EtcdSource {
        let endpoints = endpoints.split(',').map(|endpoint| endpoint.trim_end_matches('/').to_owned());
        EtcdSource { endpoints: endpoints.collect(), timeout }
    }

    /// What etcd says of itself.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn survey(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut client = self.client().await?;
        let status = client.status().await.context("asking etcd for its status")?;
        let members = client.member_list().await.context("asking etcd for its members")?.members().len();
        let told = [("etcd", status.version().to_owned()), ("etcd members", members.to_string())];
        Ok(told.map(|(name, text)| (name.to_owned(), text)).into())
    }

    async fn client(&self) -> anyhow::Result<Client> {
        let options = ConnectOptions::new().with_connect_timeout(self.timeout).with_timeout(self.timeout);
        Client::connect(&self.endpoints, Some(options)).await.context("connecting to etcd")
    }
}

impl Source for EtcdSource {
    type Target = Etcd;

    async fn connect(&self) -> anyhow::Result<Etcd> {
        Ok(Etcd { client: self.client().await?.kv_client() })
    }
}
