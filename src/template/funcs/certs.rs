//! Keys and certificates as Sprig makes them, on the RustCrypto crates. Every draw of randomness and the time come from
//! the engine's [`Env`](super::super::Env), which decides how good the keys are.

use core::net::IpAddr;
use std::convert::Infallible;
use std::time::Duration;

use base64::Engine as _;
use crypto_bigint::BoxedUint;
use crypto_primes::hazmat::{SetBits, SmallFactorsSieveFactory};
use crypto_primes::{Flavor, is_prime, sieve_and_find};
use dsa::pkcs8::der;
use minijinja::value::Value;
use p256::elliptic_curve::Generate as _;
use rand_core::{TryCryptoRng, TryRng};
use rsa::pkcs1::{DecodeRsaPrivateKey, EncodeRsaPrivateKey};
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey};
use sha2::{Digest, Sha256};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder};
use x509_cert::certificate::TbsCertificate;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName,
    SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoRef;
use x509_cert::time::{Time, Validity};
use x509_cert::{Certificate, SubjectPublicKeyInfo, spki};

use super::super::error::FnError;
use super::super::fmt::to_string;
use super::super::runtime::Cx;
use super::super::value::{Map, Record, as_list, is_nil};
use super::{Builtin, Outcome, func, int_arg, str_arg};
use crate::template::Env;
use der::asn1::{Any, OctetString, PrintableString, SetOfVec, Utf8StringRef};
use der::{Decode, Encode, EncodePem, pem};

pub(super) const TABLE: &[Builtin] = &[
    func("genPrivateKey", "s", |cx, a| {
        let kind = str_arg(a, 0)?;
        let key = match kind {
            "" | "rsa" => Key::rsa(cx, 4096)?,
            "dsa" => Key::dsa(cx)?,
            "ecdsa" => {
                cx.steps(2_000)?;
                Key::P256(Box::new(p256::SecretKey::generate_from_rng(&mut Random(&*cx.rt.env))))
            }
            "ed25519" => {
                let mut seed = [0; 32];
                cx.random(&mut seed)?;
                Key::Ed25519(Box::new(ed25519_dalek::SigningKey::from_bytes(&seed)))
            }
            other => return Ok(Value::from(format!("Unknown type {other}"))),
        };
        Ok(Value::from(key.to_pem()?))
    }),
    func("buildCustomCert", "ss", |cx, a| {
        let decode = |i: usize, what: &str| {
            let bytes = base64::engine::general_purpose::STANDARD.decode(str_arg(a, i)?).ok();
            bytes
                .and_then(|b| String::from_utf8(b).ok())
                .ok_or_else(|| FnError::text(format!("unable to decode base64 {what}")))
        };
        let (cert, key) = (decode(0, "certificate")?, decode(1, "private key")?);
        certificate(&cert, "decodedCert")?;
        Key::from_pem(cx, &key).map_err(|e| FnError::text(format!("error parsing private key: {e}")))?;
        Ok(pair(&cert, &key))
    }),
    func("genCA", "si", |cx, a| {
        let key = Key::rsa(cx, 2048)?;
        Plan { ca: true, ..Plan::new(a, None, 1)? }.issue(cx, &key, None)
    }),
    func("genCAWithKey", "sis", |cx, a| {
        let key = given_key(cx, a, 2)?;
        Plan { ca: true, ..Plan::new(a, None, 1)? }.issue(cx, &key, None)
    }),
    func("genSelfSignedCert", "slli", |cx, a| {
        let key = Key::rsa(cx, 2048)?;
        Plan::new(a, Some((1, 2)), 3)?.issue(cx, &key, None)
    }),
    func("genSelfSignedCertWithKey", "sllis", |cx, a| {
        let key = given_key(cx, a, 4)?;
        Plan::new(a, Some((1, 2)), 3)?.issue(cx, &key, None)
    }),
    func("genSignedCert", "sllic", |cx, a| {
        let key = Key::rsa(cx, 2048)?;
        let signer = Signer::of(cx, &a[4])?;
        Plan::new(a, Some((1, 2)), 3)?.issue(cx, &key, Some(&signer))
    }),
    func("genSignedCertWithKey", "sllics", |cx, a| {
        let key = given_key(cx, a, 5)?;
        let signer = Signer::of(cx, &a[4])?;
        Plan::new(a, Some((1, 2)), 3)?.issue(cx, &key, Some(&signer))
    }),
];

/// Go's name of the type that the functions here give.
pub(super) const CERTIFICATE: &str = "sprig.certificate";

fn pair(cert: &str, key: &str) -> Value {
    let fields = Map::from([("Cert".into(), Value::from(cert)), ("Key".into(), Value::from(key))]);
    Value::from_object(Record::plain(CERTIFICATE, fields))
}

fn failed(what: &str) -> impl Fn(&dyn std::fmt::Display) -> FnError + '_ {
    move |e| FnError::text(format!("{what}: {e}"))
}

/// The engine's randomness as the RustCrypto crates want it.
struct Random<'a>(&'a dyn Env);

impl TryRng for Random<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.random(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.random(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.random(out);
        Ok(())
    }
}

impl TryCryptoRng for Random<'_> {}

/// A random prime of so many bits, the top two of which are set, so that two of them make a modulus of the full length.
fn prime(env: &dyn Env, bits: usize) -> Option<BoxedUint> {
    let bits = u32::try_from(bits).ok()?;
    let sieve = SmallFactorsSieveFactory::new(Flavor::Any, bits, SetBits::TwoMsb).ok()?;
    sieve_and_find(&mut Random(env), sieve, |_, candidate| is_prime(Flavor::Any, candidate)).ok().flatten()
}

/// The private keys that Go reads from PEM.
enum Key {
    Rsa(Box<rsa::RsaPrivateKey>),
    Dsa(Box<dsa::SigningKey>),
    P256(Box<p256::SecretKey>),
    P384(Box<p384::SecretKey>),
    P521(Box<p521::SecretKey>),
    Ed25519(Box<ed25519_dalek::SigningKey>),
}

fn given_key(cx: &Cx<'_>, a: &[Value], i: usize) -> Result<Key, FnError> {
    Key::from_pem(cx, str_arg(a, i)?).map_err(|e| FnError::text(format!("parsing private key: {e}")))
}

impl Key {
    fn rsa(cx: &Cx<'_>, bits: usize) -> Result<Self, FnError> {
        cx.costly(if bits > 2048 { 16 } else { 2 })?;
        // Most of the time of many a chart: the primes are looked for side by side.
        let (p, q) = std::thread::scope(|scope| {
            let env = &*cx.rt.env;
            let p = scope.spawn(move || prime(env, bits.div_ceil(2)));
            let q = prime(env, bits / 2);
            (p.join().unwrap_or(None), q)
        });
        let key = match (p, q) {
            (Some(p), Some(q)) => rsa::RsaPrivateKey::from_p_q(p, q, 65537_u32.into()),
            _ => Err(rsa::Error::Internal),
        };
        Ok(Self::Rsa(Box::new(key.map_err(|e| failed("error generating rsa key")(&e))?)))
    }

    fn dsa(cx: &Cx<'_>) -> Result<Self, FnError> {
        cx.costly(80)?;
        let failed = failed("failed to generate private key");
        let size = dsa::KeySize::DSA_2048_256;
        let components = dsa::Components::try_generate_from_rng_with_key_size(&mut Random(&*cx.rt.env), size)
            .map_err(|e| failed(&e))?;
        let key =
            dsa::SigningKey::try_generate_from_rng_with_components(&mut Random(&*cx.rt.env), components)
                .map_err(|e| failed(&e))?;
        Ok(Self::Dsa(Box::new(key)))
    }

    fn from_pem(cx: &Cx<'_>, text: &str) -> Result<Self, String> {
        // To sign with an RSA key takes time by the third power of its length.
        cx.steps((text.len() / 64).saturating_pow(3)).map_err(|e| e.to_string())?;
        // Go skips what stands before the first block.
        let block = text.find("-----BEGIN ").map(|i| &text[i..]).ok_or("no PEM data in input")?;
        let (label, bytes) = pem::decode_vec(block.as_bytes())
            .or_else(|_| pem::decode_vec(block.trim_end().as_bytes()))
            .map_err(|_| "no PEM data in input")?;
        let bytes = bytes.as_slice();
        let kind = match label {
            "PRIVATE KEY" => return Self::from_pkcs8(bytes),
            other => other
                .strip_suffix(" PRIVATE KEY")
                .ok_or_else(|| format!("no private key data in PEM block of type {other}"))?,
        };
        match kind {
            "RSA" => rsa::RsaPrivateKey::from_pkcs1_der(bytes)
                .map(|k| Self::Rsa(Box::new(k)))
                .map_err(|e| format!("parsing RSA private key from PEM: {e}")),
            "EC" => None
                .or_else(|| p256::SecretKey::from_sec1_der(bytes).ok().map(|k| Self::P256(Box::new(k))))
                .or_else(|| p384::SecretKey::from_sec1_der(bytes).ok().map(|k| Self::P384(Box::new(k))))
                .or_else(|| p521::SecretKey::from_sec1_der(bytes).ok().map(|k| Self::P521(Box::new(k))))
                .ok_or_else(|| "parsing EC private key from PEM: not a key on P-256, P-384 or P-521".into()),
            "DSA" => dsa_from_der(bytes)
                .map(|k| Self::Dsa(Box::new(k)))
                .map_err(|e| format!("parsing DSA private key from PEM: {e}")),
            other => Err(format!("invalid private key type {other}")),
        }
    }

    fn from_pkcs8(bytes: &[u8]) -> Result<Self, String> {
        None.or_else(|| rsa::RsaPrivateKey::from_pkcs8_der(bytes).ok().map(|k| Self::Rsa(Box::new(k))))
            .or_else(|| p256::SecretKey::from_pkcs8_der(bytes).ok().map(|k| Self::P256(Box::new(k))))
            .or_else(|| p384::SecretKey::from_pkcs8_der(bytes).ok().map(|k| Self::P384(Box::new(k))))
            .or_else(|| p521::SecretKey::from_pkcs8_der(bytes).ok().map(|k| Self::P521(Box::new(k))))
            .or_else(|| {
                ed25519_dalek::SigningKey::from_pkcs8_der(bytes).ok().map(|k| Self::Ed25519(Box::new(k)))
            })
            .ok_or_else(|| "decoding PEM as PKCS#8: no RSA, elliptic curve or Ed25519 key".into())
    }

    /// The block that Sprig writes for a key of this kind.
    fn to_pem(&self) -> Result<String, FnError> {
        let failed = |e: &dyn std::fmt::Display| FnError::text(format!("error pem-encoding key: {e}"));
        let (label, der) = match self {
            Self::Rsa(k) => {
                ("RSA PRIVATE KEY", k.to_pkcs1_der().map_err(|e| failed(&e))?.as_bytes().to_vec())
            }
            Self::Dsa(k) => ("DSA PRIVATE KEY", dsa_to_der(k).map_err(|e| failed(&e))?),
            Self::P256(k) => ("EC PRIVATE KEY", k.to_sec1_der().map_err(|e| failed(&e))?.to_vec()),
            Self::P384(k) => ("EC PRIVATE KEY", k.to_sec1_der().map_err(|e| failed(&e))?.to_vec()),
            Self::P521(k) => ("EC PRIVATE KEY", k.to_sec1_der().map_err(|e| failed(&e))?.to_vec()),
            Self::Ed25519(k) => {
                // Go writes the first version of PKCS#8, which holds no public key.
                let bytes = ed25519_dalek::pkcs8::KeypairBytes { secret_key: k.to_bytes(), public_key: None };
                ("PRIVATE KEY", bytes.to_pkcs8_der().map_err(|e| failed(&e))?.as_bytes().to_vec())
            }
        };
        pem::encode_string(label, pem::LineEnding::LF, &der).map_err(|e| failed(&e))
    }

    fn public(&self) -> Result<SubjectPublicKeyInfo, FnError> {
        let failed = failed("error creating certificate");
        let der = match self {
            Self::Rsa(k) => k.to_public_key().to_public_key_der(),
            Self::P256(k) => k.public_key().to_public_key_der(),
            Self::P384(k) => k.public_key().to_public_key_der(),
            Self::P521(k) => k.public_key().to_public_key_der(),
            Self::Ed25519(k) => k.verifying_key().to_public_key_der(),
            Self::Dsa(_) => return Err(failed(&"x509: only RSA, ECDSA and Ed25519 keys supported")),
        };
        let der = der.map_err(|e| failed(&e))?;
        SubjectPublicKeyInfo::from_der(der.as_bytes()).map_err(|e| failed(&e))
    }

    fn sign<P: BuilderProfile>(&self, builder: CertificateBuilder<P>) -> Result<Certificate, FnError> {
        let failed = failed("error creating certificate");
        match self {
            Self::Rsa(k) => builder.build(&rsa::pkcs1v15::SigningKey::<Sha256>::new((**k).clone())),
            Self::P256(k) => {
                builder.build::<_, p256::ecdsa::DerSignature>(&p256::ecdsa::SigningKey::from((**k).clone()))
            }
            Self::P384(k) => {
                builder.build::<_, p384::ecdsa::DerSignature>(&p384::ecdsa::SigningKey::from((**k).clone()))
            }
            Self::P521(k) => {
                builder.build::<_, p521::ecdsa::DerSignature>(&p521::ecdsa::SigningKey::from((**k).clone()))
            }
            Self::Ed25519(k) => builder.build(&**k),
            Self::Dsa(_) => return Err(failed(&"x509: only RSA, ECDSA and Ed25519 keys supported")),
        }
        .map_err(|e| failed(&e))
    }
}

/// OpenSSL's old form of a DSA key, which Sprig writes: version, p, q, g, public and private number.
fn dsa_to_der(key: &dsa::SigningKey) -> der::Result<Vec<u8>> {
    let public = key.verifying_key();
    let c = public.components();
    let mut body = der::asn1::Uint::new(&[0])?.to_der()?;
    let numbers = [
        c.p().to_be_bytes(),
        c.q().to_be_bytes(),
        c.g().to_be_bytes(),
        public.y().to_be_bytes(),
        key.x().to_be_bytes(),
    ];
    for n in numbers {
        body.extend(der::asn1::Uint::new(&n)?.to_der()?);
    }
    Any::new(der::Tag::Sequence, body)?.to_der()
}

fn dsa_from_der(bytes: &[u8]) -> Result<dsa::SigningKey, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let numbers = Vec::<der::asn1::Uint>::from_der(bytes).map_err(|e| text(&e))?;
    let n = |i: usize| {
        let uint: Option<&der::asn1::Uint> = numbers.get(i);
        uint.map(|u| dsa::BoxedUint::from_be_slice_vartime(u.as_bytes())).ok_or("too few numbers")
    };
    let components = dsa::Components::from_components(n(1)?, n(2)?, n(3)?).map_err(|e| text(&e))?;
    let public = dsa::VerifyingKey::from_components(components, n(4)?).map_err(|e| text(&e))?;
    dsa::SigningKey::from_components(public, n(5)?).map_err(|e| text(&e))
}

fn certificate(text: &str, named: &str) -> Result<Certificate, FnError> {
    let undecodable = || FnError::text("unable to decode certificate");
    let begin = text.find("-----BEGIN ").ok_or_else(undecodable)?;
    // Only the first of several blocks counts.
    let end = text[begin..].find("-----END ").map(|i| begin + i + 9).ok_or_else(undecodable)?;
    let end = text[end..].find("-----").map(|i| end + i + 5).ok_or_else(undecodable)?;
    let block = &text.as_bytes()[begin..end];
    let (_, bytes) = pem::decode_vec(block).map_err(|_| undecodable())?;
    Certificate::from_der(&bytes)
        .map_err(|e| FnError::text(format!("error parsing certificate: {named}.Bytes: {e}")))
}

/// The authority that `genSignedCert` is given.
struct Signer {
    cert: Certificate,
    key: Key,
}

impl Signer {
    fn of(cx: &Cx<'_>, v: &Value) -> Result<Self, FnError> {
        let record = v.downcast_object_ref::<Record>().ok_or_else(|| super::wrong(v, CERTIFICATE))?;
        let field = |name: &str| {
            record.fields.get(name).and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
        };
        let cert = certificate(&field("Cert"), "decodedSignerCert")?;
        let key = Key::from_pem(cx, &field("Key"))
            .map_err(|e| FnError::text(format!("error parsing private key: {e}")))?;
        Ok(Self { cert, key })
    }
}

/// What a certificate is to say.
struct Plan {
    common_name: String,
    names: Vec<GeneralName>,
    days: i64,
    ca: bool,
}

impl Plan {
    /// From the arguments: the name first, addresses and DNS names at the places given, then the days.
    fn new(a: &[Value], names_at: Option<(usize, usize)>, days_at: usize) -> Result<Self, FnError> {
        let mut names = Vec::new();
        if let Some((ips, dns)) = names_at {
            let strings = |v: &Value, bad: &dyn Fn(&Value) -> FnError| -> Result<Vec<String>, FnError> {
                let items = as_list(v).map(|l| l.items.as_slice()).unwrap_or_default();
                items.iter().map(|v| v.as_str().map(str::to_owned).ok_or_else(|| bad(v))).collect()
            };
            let show = |v: &Value| if is_nil(v) { "<nil>".to_owned() } else { to_string(v) };
            let addresses = strings(&a[ips], &|v| {
                FnError::text(format!("error parsing ip: {} is not a string", show(v)))
            })?;
            let dns_names = strings(&a[dns], &|v| {
                FnError::text(format!("error processing alternate dns name: {} is not a string", show(v)))
            })?;
            for name in &dns_names {
                let name = der::asn1::Ia5String::new(name).map_err(|_| {
                    FnError::text(format!(
                        "error creating certificate: x509: {name:?} cannot be encoded as an IA5String"
                    ))
                })?;
                names.push(GeneralName::DnsName(name));
            }
            for text in &addresses {
                let bad = || FnError::text(format!("error parsing ip: {text}"));
                let bytes = match text.parse::<IpAddr>().map_err(|_| bad())?.to_canonical() {
                    IpAddr::V4(ip) => ip.octets().to_vec(),
                    IpAddr::V6(ip) => ip.octets().to_vec(),
                };
                names.push(GeneralName::IpAddress(OctetString::new(bytes).map_err(|_| bad())?));
            }
        }
        Ok(Self { common_name: str_arg(a, 0)?.to_owned(), names, days: int_arg(a, days_at)?, ca: false })
    }

    fn issue(&self, cx: &Cx<'_>, key: &Key, signer: Option<&Signer>) -> Outcome {
        let failed = failed("error creating certificate");
        let mut serial = [0; 16];
        cx.random(&mut serial)?;
        let serial = SerialNumber::new(&serial).map_err(|e| failed(&e))?;
        let now = cx.rt.env.now_nanos().div_euclid(1_000_000_000);
        let end = now + i128::from(self.days) * 86_400;
        let validity =
            Validity::new(instant(now).map_err(|e| failed(&e))?, instant(end).map_err(|e| failed(&e))?);
        let subject = common_name(&self.common_name).map_err(|e| failed(&e))?;
        let public = key.public()?;
        let profile = Like { plan: self, subject, signer };
        let builder = CertificateBuilder::new(profile, serial, validity, public).map_err(|e| failed(&e))?;
        let cert = signer.map_or(key, |s| &s.key).sign(builder)?;
        let cert = cert.to_pem(pem::LineEnding::LF).map_err(|e| failed(&e))?;
        Ok(pair(&cert, &key.to_pem()?))
    }
}

fn instant(seconds: i128) -> der::Result<Time> {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    // Years up to 2049 are UTCTime; the builder chooses.
    Ok(Time::GeneralTime(der::asn1::GeneralizedTime::from_unix_duration(Duration::from_secs(seconds))?))
}

/// A name of just `CN=…`, as a PrintableString where that can hold it; an empty one has no parts.
fn common_name(text: &str) -> der::Result<Name> {
    let mut rdns = RdnSequence::default();
    if !text.is_empty() {
        let value = match PrintableString::new(text) {
            Ok(s) => Any::encode_from(&s)?,
            Err(_) => Any::encode_from(&Utf8StringRef::new(text)?)?,
        };
        let oid = spki::ObjectIdentifier::new_unwrap("2.5.4.3");
        let set = SetOfVec::try_from(vec![AttributeTypeAndValue { oid, value }])?;
        rdns.push(RelativeDistinguishedName::from(set));
    }
    Ok(Name::hazmat_from_rdn_sequence(rdns))
}

/// Extensions as Go's `x509.CreateCertificate` writes them for the template that Sprig gives it, in its order.
struct Like<'a> {
    plan: &'a Plan,
    subject: Name,
    signer: Option<&'a Signer>,
}

impl BuilderProfile for Like<'_> {
    fn get_issuer(&self, subject: &Name) -> Name {
        self.signer.map_or_else(|| subject.clone(), |s| s.cert.tbs_certificate().subject().clone())
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        public: SubjectPublicKeyInfoRef<'_>,
        _: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        let mut out = Vec::new();
        let mut usage = KeyUsages::DigitalSignature | KeyUsages::KeyEncipherment;
        if self.plan.ca {
            usage |= KeyUsages::KeyCertSign;
        }
        let subject = tbs.subject();
        out.push((&KeyUsage(usage)).to_extension(subject, &out)?);
        let purposes = ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"];
        let purposes = purposes.map(spki::ObjectIdentifier::new_unwrap).to_vec();
        out.push((&ExtendedKeyUsage(purposes)).to_extension(subject, &out)?);
        let basic = BasicConstraints { ca: self.plan.ca, path_len_constraint: None };
        out.push((true, &basic).to_extension(subject, &out)?);
        if self.plan.ca {
            // The first 160 bits of the key's SHA-256, after RFC 7093, since Go 1.25.
            let hash = Sha256::digest(public.subject_public_key.raw_bytes());
            let id = SubjectKeyIdentifier(OctetString::new(&hash[..20])?);
            out.push((&id).to_extension(subject, &out)?);
        }
        if let Some(signer) = self.signer.filter(|_| tbs.issuer() != subject) {
            let id = signer.cert.tbs_certificate().get_extension::<SubjectKeyIdentifier>()?;
            if let Some((_, id)) = id {
                let id = AuthorityKeyIdentifier { key_identifier: Some(id.0), ..Default::default() };
                out.push((&id).to_extension(subject, &out)?);
            }
        }
        if !self.plan.names.is_empty() {
            let names = SubjectAltName(self.plan.names.clone());
            out.push((subject.is_empty(), &names).to_extension(subject, &out)?);
        }
        Ok(out)
    }
}
