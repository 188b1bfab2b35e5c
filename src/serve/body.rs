//! Bodies of answers, whole ones and spoiled ones.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;

use super::faults::Fault;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn empty() -> Body {
    full(Bytes::new())
}

pub(super) fn streamed(bytes: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(bytes.map_ok(Frame::data)).boxed_unsync()
}

pub(super) fn endless() -> impl Stream<Item = io::Result<Bytes>> + Send {
    let chunk = Bytes::from(vec![b' '; 64 * 1024]);
    stream::repeat_with(move || Ok(chunk.clone()))
}

/// The body with a fault in it.
pub(super) fn spoiled(bytes: stream::BoxStream<'static, io::Result<Bytes>>, fault: &Fault) -> Body {
    let upto = |after: u64| {
        let mut left = after;
        bytes_upto(move |chunk: &mut Bytes| {
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            chunk.truncate(take);
            left -= take as u64;
        })
    };
    match fault {
        Fault::Cut { after } => {
            let cut = stream::once(async {
                // What came before is flushed first: the client is to get it.
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                Err(io::Error::other("cut on purpose"))
            });
            streamed(bytes.map(upto(*after)).chain(cut))
        }
        Fault::Stall { after } => streamed(bytes.map(upto(*after)).chain(stream::pending())),
        Fault::WrongBytes => {
            let mut first = true;
            streamed(bytes.map_ok(move |chunk| {
                if !std::mem::take(&mut first) || chunk.is_empty() {
                    return chunk;
                }
                let mut other = chunk.to_vec();
                other[0] ^= 1;
                other.into()
            }))
        }
        Fault::Extra { bytes: more } => {
            let more = vec![b'x'; usize::try_from(*more).unwrap_or(0)];
            streamed(bytes.chain(stream::iter([Ok(Bytes::from(more))])))
        }
        Fault::Endless => streamed(bytes.chain(endless())),
        _ => streamed(bytes),
    }
}

fn bytes_upto(mut cut: impl FnMut(&mut Bytes) + Send) -> impl FnMut(io::Result<Bytes>) -> io::Result<Bytes> {
    move |chunk| {
        chunk.map(|mut chunk| {
            cut(&mut chunk);
            chunk
        })
    }
}
