//! Reed–Solomon over stripes: chunk i of every volume. A stripe is handled in pieces, so that what is held in memory
//! does not grow with the number of volumes. The code works on 64 bytes at a time, so pieces give what the whole gives.

use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use super::VolumeError;
use super::header::Header;

/// What all pieces of a stripe may have together.
const STRIPE_BYTES: u64 = 24 << 20;
/// The least that is worth a read.
const LEAST: u64 = 4096;

fn told(error: reed_solomon_simd::Error) -> VolumeError {
    VolumeError::Parity(error.to_string())
}

fn count(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Bytes of a piece: a power of two, as chunks are.
pub(super) fn piece(header: &Header) -> usize {
    let fair = (STRIPE_BYTES / header.count()).max(LEAST);
    count(header.chunk.min(1 << fair.ilog2()))
}

/// Computes parity from all data.
pub(super) struct Encoder {
    coder: ReedSolomonEncoder,
}

impl Encoder {
    pub(super) fn new(header: &Header) -> Result<Self, VolumeError> {
        let coder = ReedSolomonEncoder::new(count(header.data), count(header.parity), piece(header));
        Ok(Self { coder: coder.map_err(told)? })
    }

    /// `pieces`: of every volume with data, in order. Gives those of the volumes with parity.
    pub(super) fn encode(&mut self, pieces: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, VolumeError> {
        for piece in pieces {
            self.coder.add_original_shard(piece).map_err(told)?;
        }
        let done = self.coder.encode().map_err(told)?;
        Ok(done.recovery_iter().map(<[u8]>::to_vec).collect())
    }
}

/// Computes what is missing from what is there.
pub(super) struct Decoder {
    header: Header,
    coder: ReedSolomonDecoder,
    encoder: Encoder,
}

impl Decoder {
    pub(super) fn new(header: &Header) -> Result<Self, VolumeError> {
        let coder = ReedSolomonDecoder::new(count(header.data), count(header.parity), piece(header));
        Ok(Self { header: header.clone(), coder: coder.map_err(told)?, encoder: Encoder::new(header)? })
    }

    /// Fills in each `None` of the pieces of all volumes, in order. At most as many as there are volumes with parity.
    pub(super) fn complete(&mut self, pieces: &mut [Option<Vec<u8>>]) -> Result<(), VolumeError> {
        let data = count(self.header.data);
        let lacks = |all: &[Option<Vec<u8>>]| all.iter().any(Option::is_none);
        if lacks(pieces.get(..data).unwrap_or_default()) {
            for (i, piece) in pieces.iter().enumerate() {
                match piece {
                    Some(piece) if i < data => self.coder.add_original_shard(i, piece).map_err(told)?,
                    Some(piece) => self.coder.add_recovery_shard(i - data, piece).map_err(told)?,
                    None => {}
                }
            }
            let done = self.coder.decode().map_err(told)?;
            for (i, restored) in done.restored_original_iter() {
                pieces[i] = Some(restored.to_vec());
            }
        }
        if lacks(pieces) {
            let (originals, rest) = pieces.split_at_mut(data);
            let originals: Vec<Vec<u8>> = originals.iter().flatten().cloned().collect();
            let parity = self.encoder.encode(&originals)?;
            for (slot, computed) in rest.iter_mut().zip(parity) {
                slot.get_or_insert(computed);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn as_many_as_there_is_parity_come_back(data in 1u64..30, percent in 1u64..=100, seed: u64) {
            let volume = 64 << 10;
            let size = data * volume - seed % volume;
            let header = Header { chunk: 4096, volume, data, size, parity: (data * percent).div_ceil(100),
                ..Header::plan("x", size, 1 << 30, percent).unwrap() };
            let mut rng = fastrand::Rng::with_seed(seed);
            let len = piece(&header);
            let originals: Vec<Vec<u8>> =
                (0..data).map(|_| std::iter::repeat_with(|| rng.u8(..)).take(len).collect()).collect();
            let parity = Encoder::new(&header).unwrap().encode(&originals).unwrap();
            let all: Vec<Option<Vec<u8>>> = originals.into_iter().chain(parity).map(Some).collect();
            let mut some = all.clone();
            for _ in 0..header.parity {
                some[rng.usize(..all.len())] = None;
            }
            let mut decoder = Decoder::new(&header).unwrap();
            for _ in 0..2 {
                let mut lacking = some.clone();
                decoder.complete(&mut lacking).unwrap();
                prop_assert_eq!(&lacking, &all);
            }
        }
    }

    #[test]
    fn pieces_give_what_the_whole_gives() {
        let whole: Vec<Vec<u8>> =
            (0..3u8).map(|i| (0..8192u32).map(|n| (n * 7).to_le_bytes()[0] ^ i).collect()).collect();
        let by = |len: usize| {
            let mut coder = ReedSolomonEncoder::new(3, 2, len).unwrap();
            let mut out = vec![Vec::new(); 2];
            for at in (0..8192).step_by(len) {
                whole.iter().for_each(|w| coder.add_original_shard(&w[at..at + len]).unwrap());
                let done = coder.encode().unwrap();
                out.iter_mut().zip(done.recovery_iter()).for_each(|(o, r)| o.extend_from_slice(r));
            }
            out
        };
        assert_eq!(by(8192), by(4096));
        assert_eq!(by(8192), by(64));
    }
}
