//! Passwords and passphrases: from files, or from whoever sits at the terminal, asked once.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use russh::keys::PrivateKey;
use tokio::sync::Mutex;

use crate::node::Secret;

/// Somebody who can be asked.
pub trait Ask: Send + Sync {
    /// Shows `question` and waits for a line, which appears while it is typed when `echo` is set. `None`: nobody
    /// answers. Blocks.
    fn ask(&self, question: &str, echo: bool) -> Option<Secret>;
}

/// All secrets of a run. Nothing is asked twice: forty nodes with one password cost one question.
#[derive(Default)]
pub struct Secrets {
    ask: Option<Arc<dyn Ask>>,
    passphrase: Option<Secret>,
    password: Option<Secret>,
    /// Answers so far; `None`: nobody answered, which is not asked again. Locked while a question is on the screen.
    asked: Mutex<HashMap<String, Option<Secret>>>,
    /// Keys that a passphrase has opened, by file: opening one costs a fraction of a second on purpose.
    keys: Mutex<HashMap<std::path::PathBuf, Arc<PrivateKey>>>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("ask", &self.ask.is_some()).finish_non_exhaustive()
    }
}

impl Secrets {
    /// `passphrase` opens keys, `password` logs in where the inventory has none; what is missing is asked for.
    pub fn new(ask: Option<Arc<dyn Ask>>, passphrase: Option<Secret>, password: Option<Secret>) -> Self {
        Self { ask, passphrase, password, ..Self::default() }
    }

    /// Whether a question could be answered.
    pub(super) fn can_ask(&self) -> bool {
        self.ask.is_some()
    }

    /// The key in a file that has a passphrase; why not, in words.
    pub(super) async fn open_key(&self, path: &Path, text: &str) -> Result<Arc<PrivateKey>, String> {
        let mut keys = self.keys.lock().await;
        if let Some(key) = keys.get(path) {
            return Ok(Arc::clone(key));
        }
        let open = |secret: Secret| {
            let text = text.to_owned();
            // bcrypt: seconds of work are possible.
            tokio::task::spawn_blocking(move || {
                russh::keys::decode_secret_key(&text, Some(secret.expose())).ok().map(Arc::new)
            })
        };
        let mut found = None;
        if let Some(secret) = &self.passphrase {
            found = open(secret.clone()).await.ok().flatten();
        }
        let what = format!("passphrase {}", path.display());
        for again in ["", ", once more", ", for the last time"] {
            if found.is_some() {
                break;
            }
            let question = format!("passphrase of the key {}{again}: ", path.display());
            // A second connection that comes here has the answer in `keys` or the `None` in `asked`.
            match self.once(&what, &question).await {
                Some(secret) => {
                    found = open(secret).await.ok().flatten();
                    if found.is_none() {
                        self.asked.lock().await.remove(&what);
                    }
                }
                None => break,
            }
        }
        let Some(key) = found else {
            self.asked.lock().await.entry(what).or_insert(None);
            return Err(match (&self.passphrase, &self.ask) {
                (Some(_), None) => {
                    "it has a passphrase, which is not the one in --passphrase-file".to_owned()
                }
                (None, None) => "it has a passphrase".to_owned(),
                _ => "its passphrase was not given".to_owned(),
            });
        };
        keys.insert(path.to_owned(), Arc::clone(&key));
        Ok(key)
    }

    /// A password for `who`; `refused` is the one that was just refused.
    pub(super) async fn password(
        &self,
        who: &str,
        question: &str,
        refused: Option<&Secret>,
    ) -> Option<Secret> {
        if let Some(password) = self.password.as_ref().filter(|p| Some(*p) != refused) {
            return Some(password.clone());
        }
        self.password_of_one(who, question, refused).await
    }

    /// As [`Secrets::password`], for a host to which the password of the nodes is not told.
    pub(super) async fn password_of_one(
        &self,
        who: &str,
        question: &str,
        refused: Option<&Secret>,
    ) -> Option<Secret> {
        let what = format!("password {who}");
        {
            let mut asked = self.asked.lock().await;
            // Another connection may have asked again since.
            if refused.is_some() && asked.get(&what).is_some_and(|a| a.as_ref() == refused) {
                asked.remove(&what);
            }
        }
        self.once(&what, question).await
    }

    /// An answer that is good only this time, such as a code of a token.
    pub(super) async fn answer(&self, question: &str, echo: bool) -> Option<Secret> {
        let _one = self.asked.lock().await;
        self.put(question, echo).await
    }

    async fn once(&self, what: &str, question: &str) -> Option<Secret> {
        let mut asked = self.asked.lock().await;
        if let Some(answer) = asked.get(what) {
            return answer.clone();
        }
        let answer = self.put(question, false).await;
        asked.insert(what.to_owned(), answer.clone());
        answer
    }

    async fn put(&self, question: &str, echo: bool) -> Option<Secret> {
        let (ask, question) = (Arc::clone(self.ask.as_ref()?), question.to_owned());
        tokio::task::spawn_blocking(move || ask.ask(&question, echo)).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use super::*;

    struct Script(StdMutex<Vec<&'static str>>, StdMutex<Vec<String>>);

    impl Ask for Script {
        fn ask(&self, question: &str, _: bool) -> Option<Secret> {
            self.1.lock().unwrap().push(question.to_owned());
            self.0.lock().unwrap().pop().map(Secret::new)
        }
    }

    #[tokio::test]
    async fn many_at_once_cost_one_question() {
        let script = Arc::new(Script(StdMutex::new(vec!["two", "one"]), StdMutex::default()));
        let secrets = Secrets::new(Some(script.clone()), None, None);
        let all = futures_util::future::join_all((0..20).map(|_| secrets.password("core", "q", None))).await;
        assert!(all.iter().all(|a| a.as_ref().map(Secret::expose) == Some("one")));
        assert_eq!(script.1.lock().unwrap().len(), 1);
        // All of them are refused: one more question, not twenty.
        let refused = Secret::new("one");
        let again = (0..20).map(|_| secrets.password("core", "q", Some(&refused)));
        let all = futures_util::future::join_all(again).await;
        assert!(all.iter().all(|a| a.as_ref().map(Secret::expose) == Some("two")));
        assert_eq!(script.1.lock().unwrap().len(), 2);
        // Nobody answers: that is not asked again.
        assert_eq!(secrets.password("root", "q", None).await, None);
        assert_eq!(secrets.password("root", "q", None).await, None);
        assert_eq!(script.1.lock().unwrap().len(), 3);
        assert!(!format!("{secrets:?}").contains("one"));
    }

    #[tokio::test]
    async fn the_password_of_the_nodes_is_not_told_to_hosts_on_the_way() {
        let secrets = Secrets::new(None, None, Some(Secret::new("nodes")));
        assert_eq!(secrets.password("core", "q", None).await.as_ref().map(Secret::expose), Some("nodes"));
        assert_eq!(secrets.password_of_one("core@bastion", "q", None).await, None);
    }
}
