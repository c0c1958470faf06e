//! What a table holds, in numbers (FORMAT.md §2.4).

use crate::sst::{NEVER_MS, Record, TreeKey};
use ringkv_wire::ids::KeyspaceId;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    entries: U64,
    tombstones: U64,
    version_min: U64,
    version_max: U64,
    key_bytes: U64,
    value_bytes: U64,
    least_keyspace: U32,
    greatest_keyspace: U32,
    least_bytes: U16,
    greatest_bytes: U16,
    zero: U32,
}

const _: () = assert!(size_of::<Layout>() == 64);

/// Behind the keys, of a table with values that expire.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ExpiryLayout {
    entries: U64,
    first_ms: U64,
    last_ms: U64,
}

const _: () = assert!(size_of::<ExpiryLayout>() == 24);

/// Of a table's entries those that expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiring {
    /// How many.
    pub entries: u64,
    /// When the first does, log time, ms.
    pub first_ms: u64,
    /// When the last does.
    pub last_ms: u64,
}

/// What a table holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Entries, tombstones included.
    pub entries: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Lowest version.
    pub version_min: u64,
    /// Highest version.
    pub version_max: u64,
    /// Bytes of all keys.
    pub key_bytes: u64,
    /// Bytes of all values.
    pub value_bytes: u64,
    /// Entries that expire, if any does.
    pub expiring: Option<Expiring>,
    least: (KeyspaceId, Vec<u8>),
    greatest: (KeyspaceId, Vec<u8>),
}

impl ExpiryLayout {
    fn read(self) -> Expiring {
        Expiring { entries: self.entries.get(), first_ms: self.first_ms.get(), last_ms: self.last_ms.get() }
    }
}

impl Properties {
    /// Counts an entry; keys come in order.
    pub fn count(&mut self, key: TreeKey<'_>, record: &Record<'_>) {
        let Record { version, value, expiry_ms } = *record;
        if self.entries == 0 {
            self.least = (key.0, key.1.to_vec());
            self.version_min = version;
        }
        self.greatest.0 = key.0;
        self.greatest.1.clear();
        self.greatest.1.extend_from_slice(key.1);
        self.entries += 1;
        self.tombstones += u64::from(value.is_none());
        self.version_min = self.version_min.min(version);
        self.version_max = self.version_max.max(version);
        self.key_bytes += key.1.len() as u64;
        self.value_bytes += value.map_or(0, <[u8]>::len) as u64;
        if record.expires() {
            let all = self.expiring.get_or_insert(Expiring { entries: 0, first_ms: expiry_ms, last_ms: expiry_ms });
            all.entries += 1;
            all.first_ms = all.first_ms.min(expiry_ms);
            all.last_ms = all.last_ms.max(expiry_ms);
        }
    }

    /// The least key.
    pub fn least(&self) -> TreeKey<'_> {
        (self.least.0, &self.least.1)
    }

    /// The greatest key.
    pub fn greatest(&self) -> TreeKey<'_> {
        (self.greatest.0, &self.greatest.1)
    }

    /// When about half of the entries have expired, log time, ms, if they are spread evenly; [`NEVER_MS`]: never.
    pub fn stale_ms(&self) -> u64 {
        let half = self.entries.div_ceil(2);
        let Some(all) = self.expiring.filter(|all| all.entries >= half) else { return NEVER_MS };
        let span_ms = u128::from(all.last_ms - all.first_ms);
        all.first_ms + (span_ms * u128::from(half) / u128::from(all.entries)) as u64
    }

    /// Whether `key` lies between the least and the greatest.
    pub fn covers(&self, key: TreeKey<'_>) -> bool {
        self.least() <= key && key <= self.greatest()
    }

    /// Appends the section.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let layout = Layout {
            entries: U64::new(self.entries),
            tombstones: U64::new(self.tombstones),
            version_min: U64::new(self.version_min),
            version_max: U64::new(self.version_max),
            key_bytes: U64::new(self.key_bytes),
            value_bytes: U64::new(self.value_bytes),
            least_keyspace: U32::new(self.least.0.0),
            greatest_keyspace: U32::new(self.greatest.0.0),
            least_bytes: U16::new(self.least.1.len() as u16),
            greatest_bytes: U16::new(self.greatest.1.len() as u16),
            zero: U32::new(0),
        };
        out.extend_from_slice(layout.as_bytes());
        out.extend_from_slice(&self.least.1);
        out.extend_from_slice(&self.greatest.1);
        if let Some(Expiring { entries, first_ms, last_ms }) = self.expiring {
            let [entries, first_ms, last_ms] = [entries, first_ms, last_ms].map(U64::new);
            out.extend_from_slice(ExpiryLayout { entries, first_ms, last_ms }.as_bytes());
        }
    }

    /// Reads the section; none when it makes no sense.
    pub fn decode(section: &[u8]) -> Option<Properties> {
        let (layout, keys) = Layout::read_from_prefix(section).ok()?;
        let (least, rest) = keys.split_at_checked(usize::from(layout.least_bytes.get()))?;
        let (greatest, rest) = rest.split_at_checked(usize::from(layout.greatest_bytes.get()))?;
        let expiring = if rest.is_empty() { None } else { Some(ExpiryLayout::read_from_bytes(rest).ok()?.read()) };
        let properties = Properties {
            entries: layout.entries.get(),
            tombstones: layout.tombstones.get(),
            version_min: layout.version_min.get(),
            version_max: layout.version_max.get(),
            key_bytes: layout.key_bytes.get(),
            value_bytes: layout.value_bytes.get(),
            expiring,
            least: (KeyspaceId(layout.least_keyspace.get()), least.to_vec()),
            greatest: (KeyspaceId(layout.greatest_keyspace.get()), greatest.to_vec()),
        };
        let sensible = |all: Expiring| (1..=properties.entries).contains(&all.entries) && all.first_ms <= all.last_ms;
        let in_order = properties.entries > 0 && properties.least() <= properties.greatest();
        (in_order && expiring.is_none_or(sensible)).then_some(properties)
    }
}
