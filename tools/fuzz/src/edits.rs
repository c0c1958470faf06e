//! Edits of files, as a fuzzer's bytes tell them.

/// Files and offsets beyond this are edited rarely by chance; everything of interest stands in front.
const EDITS_MAX: usize = 32;

/// An edit: which file, where, and the bytes. From 6 + n bytes of input: file u8, offset u24, sealed u8, n u8, n bytes.
pub struct Edit<'b> {
    pub file: usize,
    pub offset: u64,
    pub sealed: bool,
    pub bytes: &'b [u8],
}

/// The edits that some input stands for.
pub fn edits(mut input: &[u8]) -> Vec<Edit<'_>> {
    let mut edits = Vec::new();
    while let ([file, a, b, c, sealed, count, rest @ ..], true) = (input, edits.len() < EDITS_MAX) {
        let (bytes, behind) = rest.split_at(rest.len().min(usize::from(*count)));
        let offset = u64::from(u32::from_le_bytes([*a, *b, *c, 0]));
        edits.push(Edit { file: usize::from(*file), offset, sealed: sealed & 1 == 1, bytes });
        input = behind;
    }
    edits
}

/// An edit, in the form that [`edits`] reads.
pub fn edit(file: u8, offset: u32, sealed: u8, bytes: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = offset.to_le_bytes();
    [&[file, a, b, c, sealed, bytes.len() as u8], bytes].concat()
}

/// A few edits.
pub fn samples() -> Vec<Vec<u8>> {
    vec![
        edit(0, 0, 0, b"x"),
        edit(0, 4096, 1, b"RKLB\x01\0\x03\0"),
        edit(0, 4096 + 496, 1, &9u64.to_le_bytes()),
        [edit(0, 8192 + 64, 1, &[2, 3, 0, 0, 255, 255, 0, 0]), edit(0, 8192 + 48, 1, &[0; 4])].concat(),
        edit(1, 100, 0, &[0; 64]),
        edit(2, 16, 0, b"\xff\xff"),
    ]
}
