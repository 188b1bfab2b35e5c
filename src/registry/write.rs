//! Requests that change something, to addresses that a registry may have named itself.

use std::sync::PoisonError;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode, Url};

use super::http::{Http, Target};
use super::retry::Failure;

/// A request to write: to an address that the registry may have named itself.
pub(super) struct Raw {
    method: Method,
    pub(super) url: Url,
    headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Raw {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// What is no header value is left out: the registry says what it misses.
    pub(super) fn header(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
    }
}

impl Http {
    /// Sends one request to write, logging in when the registry asks for it. Any status is an answer.
    pub(super) async fn send(
        &self,
        target: &Target<'_>,
        client: &Client,
        raw: &Raw,
    ) -> Result<Response, Failure> {
        let session = self.session(target);
        let (header, seen) = {
            let mut session = session.lock().await;
            session.refresh(self, target).await?;
            session.current()
        };
        let body = || reqwest::Body::from(raw.body.clone());
        let response = self.write(target, client, raw, header.as_ref(), body()).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !is_home(target, &raw.url) {
            return Ok(response);
        }
        let header = {
            let mut session = session.lock().await;
            session.answer(self, target, response.headers(), seen).await?;
            session.current().0
        };
        self.write(target, client, raw, header.as_ref(), body()).await
    }

    /// The same with a body that cannot be sent twice: who is not logged in by now is refused.
    pub(super) async fn send_stream(
        &self,
        target: &Target<'_>,
        client: &Client,
        raw: &Raw,
        body: reqwest::Body,
    ) -> Result<Response, Failure> {
        let session = self.session(target);
        let header = {
            let mut session = session.lock().await;
            session.refresh(self, target).await?;
            session.current().0
        };
        self.write(target, client, raw, header.as_ref(), body).await
    }

    async fn write(
        &self,
        target: &Target<'_>,
        client: &Client,
        raw: &Raw,
        authorization: Option<&HeaderValue>,
        body: reqwest::Body,
    ) -> Result<Response, Failure> {
        let mut request = client.request(raw.method.clone(), raw.url.clone());
        request = request.headers(raw.headers.clone());
        if raw.method != Method::GET && raw.method != Method::HEAD {
            request = request.body(body);
        }
        // Only the registry itself is told who we are, not the storage that it sends us to.
        if is_home(target, &raw.url) {
            request = request.headers(target.place.headers.clone());
            if let Some(value) = authorization {
                request = request.header(AUTHORIZATION, value.clone());
            }
        }
        let response = request.send().await.map_err(|e| self.failure(target, &e))?;
        self.reached.lock().unwrap_or_else(PoisonError::into_inner).insert(target.registry.to_owned());
        Ok(response)
    }
}

/// Whether an address is the registry's own.
fn is_home(target: &Target<'_>, url: &Url) -> bool {
    Url::parse(&target.place.base).is_ok_and(|own| own.origin() == url.origin())
}
