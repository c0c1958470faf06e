//! The first 96 bytes on every connection, in both directions (PROTOCOL.md §2).

use crate::codec::WireError;
use crate::entry::{check, zeros};
use crate::ids::{ClientId, ClusterId, Incarnation, NodeId, StoreId};
use crate::limits;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a hello.
pub const HELLO_BYTES: usize = 96;
const MAGIC: u32 = u32::from_le_bytes(*b"RKVH");
/// "Any store of that node."
pub const ANY_STORE: u16 = 0xffff;

/// Who opens a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// A client.
    Client = 1,
    /// Another store.
    Store = 2,
    /// An administrator's tool.
    Admin = 3,
}

/// What a link between stores carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Link {
    /// Votes, heartbeats, small appends.
    Control = 0,
    /// Snapshots and large appends.
    Bulk = 1,
}

/// The answering side's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Answer {
    /// This is the first hello, no answer.
    None = 0,
    /// Go on.
    Welcome = 1,
    /// No common version.
    Version = 2,
    /// Another cluster.
    WrongCluster = 3,
    /// Not the wanted node or store.
    WrongStore = 4,
    /// This identity was seen with another incarnation: a wiped or older copy.
    Stranger = 5,
    /// Settings that must agree do not.
    Settings = 6,
    /// Too many connections.
    Busy = 7,
    /// Not ready yet.
    Starting = 8,
}

/// A hello, decoded. What does not apply to the role is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Lowest and highest version spoken.
    pub versions: (u16, u16),
    /// The cluster; zero when not yet known.
    pub cluster: ClusterId,
    /// Who speaks.
    pub role: Role,
    /// Verdict; `None` in the first hello.
    pub answer: Answer,
    /// What the link is for.
    pub link: Link,
    /// The speaking store (node 0 for a client).
    pub from: StoreId,
    /// The store wanted: node 0 is any node, [`ANY_STORE`] any store.
    pub wanted: StoreId,
    /// The speaking store's incarnation.
    pub incarnation: Incarnation,
    /// The speaking client.
    pub client: ClientId,
    /// Epoch of the speaker's map, 0 for none.
    pub epoch: u64,
    /// Digest of settings that must agree between stores.
    pub settings: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    magic: U32,
    version_low: U16,
    version_high: U16,
    cluster: [u8; 16],
    role: u8,
    flags: u8,
    answer: u8,
    link: u8,
    from_node: U32,
    from_store: U16,
    wanted_store: U16,
    wanted_node: U32,
    incarnation: U64,
    client: [u8; 16],
    epoch: U64,
    settings: U64,
    zero: [u8; 12],
    crc: U32,
}
const _: () = assert!(size_of::<Layout>() == HELLO_BYTES);

impl Hello {
    /// A client's first hello: any store, unless `wanted` says which.
    pub fn client(client: ClientId, wanted: StoreId) -> Hello {
        Hello {
            versions: (limits::VERSION, limits::VERSION),
            cluster: ClusterId::default(),
            role: Role::Client,
            answer: Answer::None,
            link: Link::Control,
            from: StoreId::default(),
            wanted,
            incarnation: Incarnation(0),
            client,
            epoch: 0,
            settings: 0,
        }
    }

    /// Its 96 bytes.
    pub fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut layout = Layout {
            magic: U32::new(MAGIC),
            version_low: U16::new(self.versions.0),
            version_high: U16::new(self.versions.1),
            cluster: self.cluster.0,
            role: self.role as u8,
            flags: 0,
            answer: self.answer as u8,
            link: self.link as u8,
            from_node: U32::new(self.from.node.0),
            from_store: U16::new(self.from.store),
            wanted_store: U16::new(self.wanted.store),
            wanted_node: U32::new(self.wanted.node.0),
            incarnation: U64::new(self.incarnation.0),
            client: self.client.0,
            epoch: U64::new(self.epoch),
            settings: U64::new(self.settings),
            zero: [0; 12],
            crc: U32::new(0),
        };
        layout.crc = U32::new(crc32c::crc32c(&layout.as_bytes()[..92]));
        zerocopy::transmute!(layout)
    }

    /// Reads and verifies a hello. A peer of another version decodes too: ask [`Hello::speaks`] next.
    pub fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Hello, WireError> {
        let layout: Layout = zerocopy::transmute!(*bytes);
        if layout.magic.get() != MAGIC {
            return Err(WireError::Magic { got: layout.magic.get() });
        }
        check("hello", layout.crc.get(), crc32c::crc32c(&bytes[..92]))?;
        zeros(&layout.zero)?;
        let versions = (layout.version_low.get(), layout.version_high.get());
        if !(versions.0 <= limits::VERSION && limits::VERSION <= versions.1) {
            return Err(WireError::Version { got: versions.1 });
        }
        if layout.flags != 0 {
            return Err(WireError::Value { what: "hello flags", got: u64::from(layout.flags) });
        }
        Ok(Hello {
            versions,
            cluster: ClusterId(layout.cluster),
            role: match layout.role {
                1 => Role::Client,
                2 => Role::Store,
                3 => Role::Admin,
                got => return Err(WireError::Value { what: "role", got: u64::from(got) }),
            },
            answer: match layout.answer {
                0 => Answer::None,
                1 => Answer::Welcome,
                2 => Answer::Version,
                3 => Answer::WrongCluster,
                4 => Answer::WrongStore,
                5 => Answer::Stranger,
                6 => Answer::Settings,
                7 => Answer::Busy,
                8 => Answer::Starting,
                got => return Err(WireError::Value { what: "answer", got: u64::from(got) }),
            },
            link: match layout.link {
                0 => Link::Control,
                1 => Link::Bulk,
                got => return Err(WireError::Value { what: "link", got: u64::from(got) }),
            },
            from: StoreId { node: NodeId(layout.from_node.get()), store: layout.from_store.get() },
            wanted: StoreId { node: NodeId(layout.wanted_node.get()), store: layout.wanted_store.get() },
            incarnation: Incarnation(layout.incarnation.get()),
            client: ClientId(layout.client),
            epoch: layout.epoch.get(),
            settings: layout.settings.get(),
        })
    }

    /// Whether the two version ranges meet.
    pub fn speaks(&self) -> bool {
        self.versions.0 <= limits::VERSION && limits::VERSION <= self.versions.1
    }
}
