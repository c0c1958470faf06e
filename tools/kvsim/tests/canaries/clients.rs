//! Flaws of what clients are promised: once, and whole.

use crate::flaw::{Flaw, Life};
use bytes::Bytes;
use ringkv_shard::host::Host;
use ringkv_wire::entry::Operations;
use ringkv_wire::frame::{Kind, Message};
use ringkv_wire::msg::client::WriteRequest;
use ringkv_wire::msg::snapshot::{SnapshotBody, SnapshotMessage};
use std::cell::Cell;

/// Takes a request that was sent again for a new one, of another client.
pub struct KnowsNoRetry {
    strangers: Cell<u64>,
}

impl KnowsNoRetry {
    /// In this life: no other gives the same names.
    pub fn new(life: &Life) -> KnowsNoRetry {
        KnowsNoRetry { strangers: Cell::new(life.host.now().boot_ns << 8 | u64::from(life.config.id.node.0)) }
    }
}

impl Flaw for KnowsNoRetry {
    fn asked(&self, request: &mut Message) {
        if request.kind != Kind::Write {
            return;
        }
        let write = WriteRequest::decode(request.body.clone()).expect("sessions speak the protocol");
        if write.header.attempt == 0 {
            return;
        }
        let mut ops = Operations::decode(write.body).expect("sessions speak the protocol");
        self.strangers.set(self.strangers.get() + 1);
        ops.client.0[..8].copy_from_slice(&self.strangers.get().to_le_bytes());
        let mut body = Vec::new();
        WriteRequest::encode(&write.header, &ops, &mut body);
        request.body = Bytes::from(body);
    }
}

/// Ships a snapshot without its oldest table.
pub struct ShipsTooLittle;

impl Flaw for ShipsTooLittle {
    fn shipped(&self, message: &mut SnapshotMessage) {
        if let SnapshotBody::Offer { tables, .. } = &mut message.body {
            tables.pop();
        }
    }
}
