//! Records made by hand.

/// A block reference of a record under construction.
pub struct Block<'a> {
    pub id: u8,
    /// Fork number.
    pub fork: u8,
    pub will_init: bool,
    /// An uncompressed full-page image without a hole, to be restored.
    pub image: Option<&'a [u8]>,
    pub block: u32,
    pub data: &'a [u8],
}

/// The bytes of a record of resource manager `rmgr` by transaction 700; all blocks are of relation 1663/5/16384.
pub fn record(rmgr: u8, info: u8, blocks: &[Block<'_>], main: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 24];
    out[4..8].copy_from_slice(&700u32.to_le_bytes());
    out[16] = info;
    out[17] = rmgr;
    let u16_of = |len: usize| u16::try_from(len).unwrap().to_le_bytes();
    for block in blocks {
        let flags = [(block.image.is_some(), 0x10), (!block.data.is_empty(), 0x20), (block.will_init, 0x40)];
        let flags = flags.iter().filter(|(on, _)| *on).fold(block.fork, |all, (_, flag)| all | flag);
        out.extend([block.id, flags]);
        out.extend(u16_of(block.data.len()));
        if let Some(image) = block.image {
            out.extend(u16_of(image.len()));
            out.extend([0, 0, 0x02]); // no hole, to be applied
        }
        for field in [1663u32, 5, 16384, block.block] {
            out.extend(field.to_le_bytes());
        }
    }
    if !main.is_empty() {
        out.push(254);
        out.extend(u32::try_from(main.len()).unwrap().to_le_bytes());
    }
    for block in blocks {
        out.extend(block.image.unwrap_or_default());
        out.extend(block.data);
    }
    out.extend(main);
    let len = u32::try_from(out.len()).unwrap().to_le_bytes();
    out[..4].copy_from_slice(&len);
    out
}
