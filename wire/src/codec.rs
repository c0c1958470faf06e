//! Reading a stranger's bytes without trusting them, and writing ours.

use bytes::Bytes;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// What is wrong with bytes that came from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end before the field does.
    #[error("cut short: {wanted} bytes wanted, {left} left")]
    Short {
        /// Bytes the field needs.
        wanted: usize,
        /// Bytes there were.
        left: usize,
    },
    /// A magic number is not ours.
    #[error("not ringkv's: magic {got:#010x}")]
    Magic {
        /// What stood there.
        got: u32,
    },
    /// A version this build does not speak.
    #[error("version {got} is not spoken here")]
    Version {
        /// The version asked for.
        got: u16,
    },
    /// A checksum does not hold.
    #[error("{what}: checksum {got:#010x}, expected {expected:#010x}")]
    Checksum {
        /// Which part.
        what: &'static str,
        /// The checksum it carries.
        expected: u32,
        /// The checksum of its bytes.
        got: u32,
    },
    /// A number is beyond its limit.
    #[error("{what} is {got}, the limit is {limit}")]
    Limit {
        /// Which number.
        what: &'static str,
        /// Its value.
        got: u64,
        /// Its limit.
        limit: u64,
    },
    /// A field has a value that means nothing.
    #[error("{what} has no meaning as {got}")]
    Value {
        /// Which field.
        what: &'static str,
        /// Its value.
        got: u64,
    },
}

/// A bounds-checked cursor. Slices it hands out share the memory of the message.
#[derive(Clone, Debug)]
pub struct Reader {
    bytes: Bytes,
    at: usize,
}

impl Reader {
    /// Reads `bytes` from their start.
    pub fn new(bytes: Bytes) -> Reader {
        Reader { bytes, at: 0 }
    }
    /// Bytes not yet read.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }
    /// Moves on by `n` bytes and borrows them: no count of shares is touched, unlike in [`Reader::take`].
    fn step(&mut self, n: usize) -> Result<&[u8], WireError> {
        let (from, left) = (self.at, self.left());
        let bytes = self.bytes.get(from..from.saturating_add(n)).ok_or(WireError::Short { wanted: n, left })?;
        self.at = from + n;
        Ok(bytes)
    }
    /// The next `n` bytes, sharing the message's memory.
    pub fn take(&mut self, n: usize) -> Result<Bytes, WireError> {
        let from = self.at;
        self.step(n)?;
        Ok(self.bytes.slice(from..from + n))
    }
    /// All that is left.
    pub fn rest(mut self) -> Bytes {
        self.bytes.split_off(self.at)
    }
    /// A fixed layout, copied out.
    pub fn layout<T: FromBytes + KnownLayout + Immutable>(&mut self) -> Result<T, WireError> {
        let bytes = self.step(size_of::<T>())?;
        T::read_from_bytes(bytes).map_err(|_| WireError::Short { wanted: size_of::<T>(), left: 0 })
    }
    /// `n` reserved bytes: refused unless zero, so that a later version can give them a meaning.
    pub fn zeros(&mut self, n: usize) -> Result<(), WireError> {
        crate::entry::zeros(self.step(n)?)
    }
    /// One byte.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        self.layout::<u8>()
    }
    /// A little-endian u16.
    pub fn u16(&mut self) -> Result<u16, WireError> {
        Ok(self.layout::<zerocopy::little_endian::U16>()?.get())
    }
    /// A little-endian u32.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        Ok(self.layout::<zerocopy::little_endian::U32>()?.get())
    }
    /// A little-endian u64.
    pub fn u64(&mut self) -> Result<u64, WireError> {
        Ok(self.layout::<zerocopy::little_endian::U64>()?.get())
    }
    /// A count of things of at least `least_bytes` each: refused when the bytes left cannot hold them.
    pub fn count(&mut self, what: &'static str, least_bytes: usize) -> Result<usize, WireError> {
        let n = self.u32()? as usize;
        let room = self.left() / least_bytes.max(1);
        if n > room {
            return Err(WireError::Limit { what, got: n as u64, limit: room as u64 });
        }
        Ok(n)
    }
    /// Refuses bytes behind the end.
    pub fn finish(self) -> Result<(), WireError> {
        if self.left() == 0 {
            return Ok(());
        }
        Err(WireError::Value { what: "bytes behind the end", got: self.left() as u64 })
    }
}

/// Appends fields to a message.
pub trait Put {
    /// Appends raw bytes.
    fn put(&mut self, bytes: &[u8]);
    /// Appends a byte.
    fn put_u8(&mut self, v: u8) {
        self.put(&[v]);
    }
    /// Appends a little-endian u16.
    fn put_u16(&mut self, v: u16) {
        self.put(&v.to_le_bytes());
    }
    /// Appends a little-endian u32.
    fn put_u32(&mut self, v: u32) {
        self.put(&v.to_le_bytes());
    }
    /// Appends a little-endian u64.
    fn put_u64(&mut self, v: u64) {
        self.put(&v.to_le_bytes());
    }
    /// Appends a fixed layout.
    fn put_layout<T: zerocopy::IntoBytes + Immutable>(&mut self, v: &T) {
        self.put(v.as_bytes());
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}
