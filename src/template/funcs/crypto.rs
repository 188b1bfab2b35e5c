//! Hashes, random strings and identifiers. Randomness comes from the engine's [`Env`](super::super::Env).

use minijinja::value::Value;
use sha2::Digest;

use aes::cipher::block_padding::{NoPadding, Pkcs7};
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};

use super::super::bytes::{from_bytes, to_bytes};
use super::super::error::FnError;
use super::super::runtime::Cx;
use super::{Builtin, Outcome, bytes_arg, func, int_arg, str_arg};

pub(super) const TABLE: &[Builtin] = &[
    func("sha1sum", "s", |_, a| Ok(Value::from(hex(&sha1::Sha1::digest(bytes_arg(a, 0)?))))),
    func("sha256sum", "s", |_, a| Ok(Value::from(hex(&sha2::Sha256::digest(bytes_arg(a, 0)?))))),
    func("sha512sum", "s", |_, a| Ok(Value::from(hex(&sha2::Sha512::digest(bytes_arg(a, 0)?))))),
    func("adler32sum", "s", |_, a| {
        let (mut low, mut high) = (1u32, 0u32);
        for b in bytes_arg(a, 0)?.iter().copied() {
            low = (low + u32::from(b)) % 65521;
            high = (high + low) % 65521;
        }
        Ok(Value::from((high << 16 | low).to_string()))
    }),
    func("randAlphaNum", "i", |cx, a| pick(cx, a, |b| b.is_ascii_alphanumeric())),
    func("randAlpha", "i", |cx, a| pick(cx, a, |b| b.is_ascii_alphabetic())),
    func("randNumeric", "i", |cx, a| pick(cx, a, |b| b.is_ascii_digit())),
    func("randAscii", "i", |cx, a| pick(cx, a, |b| (32..127).contains(&b))),
    func("randBytes", "i", |cx, a| {
        let mut bytes = vec![0; count(cx, a)?];
        cx.random(&mut bytes)?;
        Ok(Value::from(STANDARD.encode(bytes)))
    }),
    func("uuidv4", "", |cx, _| {
        let mut b = [0u8; 16];
        cx.random(&mut b)?;
        b[6] = b[6] & 0x0f | 0x40;
        b[8] = b[8] & 0x3f | 0x80;
        let h = hex(&b);
        Ok(Value::from(format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])))
    }),
    func("bcrypt", "s", |cx, a| Ok(Value::from(bcrypt(cx, str_arg(a, 0)?)?))),
    func("htpasswd", "ss", |cx, a| {
        let (user, password) = (str_arg(a, 0)?, str_arg(a, 1)?);
        Ok(Value::from(if user.contains(':') {
            format!("invalid username: {user}")
        } else {
            format!("{user}:{}", bcrypt(cx, password)?)
        }))
    }),
    func("derivePassword", "ussss", derive_password),
    func("encryptAES", "ss", |cx, a| {
        let text = str_arg(a, 1)?;
        if text.is_empty() {
            return Ok(Value::from(""));
        }
        let mut iv = [0; 16];
        cx.random(&mut iv)?;
        let cipher = cbc::Encryptor::<aes::Aes256>::new(&aes_key(str_arg(a, 0)?).into(), &iv.into());
        let mut out = iv.to_vec();
        out.extend(cipher.encrypt_padded_vec::<Pkcs7>(&to_bytes(text)));
        Ok(Value::from(STANDARD.encode(out)))
    }),
    func("decryptAES", "ss", |_, a| {
        let text = str_arg(a, 1)?;
        if text.is_empty() {
            return Ok(Value::from(""));
        }
        let bytes = STANDARD.decode(text).map_err(|e| FnError::Text(illegal_base64(text, &e)))?;
        let Some((iv, body)) = bytes.split_first_chunk::<16>() else {
            let reason =
                format!("runtime error: slice bounds out of range [:16] with capacity {}", bytes.len());
            return Err(FnError::Text(reason));
        };
        if body.is_empty() {
            return Err(FnError::text("runtime error: index out of range [-1]"));
        }
        if body.len() % 16 != 0 {
            return Err(FnError::text("crypto/cipher: input not full blocks"));
        }
        let cipher = cbc::Decryptor::<aes::Aes256>::new(&aes_key(str_arg(a, 0)?).into(), &(*iv).into());
        let plain = cipher.decrypt_padded_vec::<NoPadding>(body).unwrap_or_default();
        // Sprig believes the last byte, whatever it is.
        let padding = plain.last().copied().map_or(0, usize::from);
        match plain.len().checked_sub(padding) {
            Some(n) => Ok(Value::from(from_bytes(&plain[..n]))),
            None => Err(FnError::text(format!(
                "runtime error: slice bounds out of range [:-{}]",
                padding - plain.len()
            ))),
        }
    }),
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn count(cx: &Cx<'_>, a: &[Value]) -> Result<usize, FnError> {
    // Go's loop over a negative number of characters ends at once.
    let n = usize::try_from(int_arg(a, 0)?).unwrap_or(0);
    cx.expect(n)?;
    cx.steps(n / 8)?;
    Ok(n)
}

/// Random characters out of those that `allowed` accepts, each as likely as the other.
fn pick(cx: &mut Cx<'_>, a: &[Value], allowed: fn(u8) -> bool) -> Outcome {
    let n = count(cx, a)?;
    let mut out = String::with_capacity(n);
    let mut buffer = [0; 256];
    while out.len() < n {
        cx.random(&mut buffer)?;
        let fits = buffer.iter().map(|b| b & 0x7f).filter(|b| allowed(*b)).map(char::from);
        out.extend(fits.take(n - out.len()));
    }
    Ok(Value::from(out))
}

/// As Go's `base64` words it.
pub(super) fn illegal_base64(text: &str, e: &base64::DecodeError) -> String {
    use base64::DecodeError as E;
    let at = match e {
        E::InvalidByte(at, _) | E::InvalidLastSymbol(at, _) => *at,
        E::InvalidLength(_) => text.len() / 4 * 4,
        E::InvalidPadding => {
            // A group that is cut off is told by its beginning, one that lacks `=` by the end of all.
            let bare = text.trim_end_matches('=').len();
            match bare % 4 {
                _ if bare == text.len() => bare / 4 * 4,
                2 | 3 => text.len(),
                _ => bare,
            }
        }
    };
    format!("illegal base64 data at input byte {at}")
}

/// At Go's usual cost. What is too long is refused in the result, as Sprig does.
fn bcrypt(cx: &Cx<'_>, password: &str) -> Result<String, FnError> {
    let refused = |why: &dyn std::fmt::Display| format!("failed to encrypt string with bcrypt: {why}");
    if password.len() > 72 {
        return Ok(refused(&"bcrypt: password length exceeds 72 bytes"));
    }
    cx.costly(2)?;
    let mut salt = [0; 16];
    cx.random(&mut salt)?;
    Ok(match bcrypt::hash_with_salt(password, 10, salt) {
        Ok(parts) => parts.format_for_version(bcrypt::Version::TwoA),
        Err(e) => refused(&e),
    })
}

/// The password as an AES-256 key: cut, or filled with zeroes.
fn aes_key(password: &str) -> [u8; 32] {
    let mut key = [0; 32];
    for (to, from) in key.iter_mut().zip(password.bytes()) {
        *to = from;
    }
    key
}

/// The forms of a password and the letters that each letter of a form stands for, by the Master Password algorithm.
fn password_forms(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "maximum" => "anoxxxxxxxxxxxxxxxxx axxxxxxxxxxxxxxxxxno",
        "long" => {
            "CvcvnoCvcvCvcv CvcvCvcvnoCvcv CvcvCvcvCvcvno CvccnoCvcvCvcv CvccCvcvnoCvcv CvccCvcvCvcvno \
             CvcvnoCvccCvcv CvcvCvccnoCvcv CvcvCvccCvcvno CvcvnoCvcvCvcc CvcvCvcvnoCvcc CvcvCvcvCvccno \
             CvccnoCvccCvcv CvccCvccnoCvcv CvccCvccCvcvno CvcvnoCvccCvcc CvcvCvccnoCvcc CvcvCvccCvccno \
             CvccnoCvcvCvcc CvccCvcvnoCvcc CvccCvcvCvccno"
        }
        "medium" => "CvcnoCvc CvcCvcno",
        "short" => "Cvcn",
        "basic" => "aaanaaan aannaaan aaannaaa",
        "pin" => "nnnn",
        _ => return None,
    })
}

fn letters(class: u8) -> &'static [u8] {
    match class {
        b'V' => b"AEIOU",
        b'C' => b"BCDFGHJKLMNPQRSTVWXYZ",
        b'v' => b"aeiou",
        b'c' => b"bcdfghjklmnpqrstvwxyz",
        b'a' => b"AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz",
        b'n' => b"0123456789",
        b'o' => b"@&%?,=[]_:-+*$#!'^~;()/.",
        _ => b"AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz0123456789!@#$%^&*()",
    }
}

/// Master Password: scrypt makes a key of name and password, HMAC a seed of key and site, and the seed picks letters.
fn derive_password(cx: &mut Cx<'_>, a: &[Value]) -> Outcome {
    let kind = str_arg(a, 1)?;
    let Some(forms) = password_forms(kind) else {
        return Ok(Value::from(format!("cannot find password template {kind}")));
    };
    let (password, user, site) = (str_arg(a, 2)?, str_arg(a, 3)?, str_arg(a, 4)?);
    cx.costly(4)?;
    let scope = |name: &str| {
        let len = u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes();
        [b"com.lyndir.masterpassword".as_slice(), &len, name.as_bytes()].concat()
    };
    let failed = |e: &dyn std::fmt::Display| FnError::text(format!("failed to derive password: {e}"));
    let mut key = [0; 64];
    let params = scrypt::Params::new(15, 8, 2).map_err(|e| failed(&e))?;
    scrypt::scrypt(password.as_bytes(), &scope(user), &params, &mut key).map_err(|e| failed(&e))?;
    let counter = u32::try_from(int_arg(a, 0)?).unwrap_or(0);
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).map_err(|e| failed(&e))?;
    mac.update(&scope(site));
    mac.update(&counter.to_be_bytes());
    let seed = mac.finalize().into_bytes();
    let forms: Vec<&str> = forms.split(' ').collect();
    let form = forms[usize::from(seed[0]) % forms.len()];
    let pick = |(class, seed): (u8, &u8)| {
        let letters = letters(class);
        char::from(letters[usize::from(*seed) % letters.len()])
    };
    Ok(Value::from(form.bytes().zip(&seed[1..]).map(pick).collect::<String>()))
}
