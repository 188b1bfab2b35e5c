//! Hashes, random strings and identifiers. Randomness comes from the engine's [`Env`](super::super::Env).

use minijinja::value::Value;
use sha2::Digest;

use super::super::engine::Cx;
use super::super::error::FnError;
use super::{ANY, Builtin, Outcome, func, int_arg, str_arg};

pub(super) const TABLE: &[Builtin] = &[
    func("sha1sum", 1, 1, |_, a| Ok(Value::from(hex(&sha1::Sha1::digest(str_arg(a, 0)?))))),
    func("sha256sum", 1, 1, |_, a| Ok(Value::from(hex(&sha2::Sha256::digest(str_arg(a, 0)?))))),
    func("sha512sum", 1, 1, |_, a| Ok(Value::from(hex(&sha2::Sha512::digest(str_arg(a, 0)?))))),
    func("adler32sum", 1, 1, |_, a| {
        let (mut low, mut high) = (1u32, 0u32);
        for b in str_arg(a, 0)?.bytes() {
            low = (low + u32::from(b)) % 65521;
            high = (high + low) % 65521;
        }
        Ok(Value::from((high << 16 | low).to_string()))
    }),
    func("randAlphaNum", 1, 1, |cx, a| pick(cx, a, |b| b.is_ascii_alphanumeric())),
    func("randAlpha", 1, 1, |cx, a| pick(cx, a, |b| b.is_ascii_alphabetic())),
    func("randNumeric", 1, 1, |cx, a| pick(cx, a, |b| b.is_ascii_digit())),
    func("randAscii", 1, 1, |cx, a| pick(cx, a, |b| (32..127).contains(&b))),
    func("randBytes", 1, 1, |cx, a| {
        use base64::Engine as _;
        let mut bytes = vec![0; count(cx, a)?];
        cx.rt.env.random(&mut bytes);
        Ok(Value::from(base64::engine::general_purpose::STANDARD.encode(bytes)))
    }),
    func("uuidv4", 0, 0, |cx, _| {
        let mut b = [0u8; 16];
        cx.rt.env.random(&mut b);
        b[6] = b[6] & 0x0f | 0x40;
        b[8] = b[8] & 0x3f | 0x80;
        let h = hex(&b);
        Ok(Value::from(format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])))
    }),
    func("bcrypt", 1, 1, |_, _| super::not_implemented("bcrypt")),
    func("htpasswd", 2, 2, |_, _| super::not_implemented("htpasswd")),
    func("derivePassword", 5, 5, |_, _| super::not_implemented("derivePassword")),
    func("genPrivateKey", 1, 1, |_, _| super::not_implemented("genPrivateKey")),
    func("genCA", 2, 2, |_, _| super::not_implemented("genCA")),
    func("genCAWithKey", 3, 3, |_, _| super::not_implemented("genCAWithKey")),
    func("genSelfSignedCert", 4, 4, |_, _| super::not_implemented("genSelfSignedCert")),
    func("genSelfSignedCertWithKey", 5, 5, |_, _| super::not_implemented("genSelfSignedCertWithKey")),
    func("genSignedCert", 5, 5, |_, _| super::not_implemented("genSignedCert")),
    func("genSignedCertWithKey", 6, 6, |_, _| super::not_implemented("genSignedCertWithKey")),
    func("buildCustomCert", 0, ANY, |_, _| super::not_implemented("buildCustomCert")),
    func("encryptAES", 2, 2, |_, _| super::not_implemented("encryptAES")),
    func("decryptAES", 2, 2, |_, _| super::not_implemented("decryptAES")),
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn count(cx: &Cx<'_, '_, '_>, a: &[Value]) -> Result<usize, FnError> {
    let n = usize::try_from(int_arg(a, 0)?).map_err(|_| FnError::text("a negative number of characters"))?;
    cx.spend(n)?;
    Ok(n)
}

/// Random characters out of those that `allowed` accepts, each as likely as the other.
fn pick(cx: &mut Cx<'_, '_, '_>, a: &[Value], allowed: fn(u8) -> bool) -> Outcome {
    let n = count(cx, a)?;
    let mut out = String::with_capacity(n);
    let mut buffer = [0; 256];
    while out.len() < n {
        cx.rt.env.random(&mut buffer);
        let fits = buffer.iter().map(|b| b & 0x7f).filter(|b| allowed(*b)).map(char::from);
        out.extend(fits.take(n - out.len()));
    }
    Ok(Value::from(out))
}
