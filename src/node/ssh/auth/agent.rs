//! Keys that an agent holds.

use russh::client::Handle;
use russh::keys::HashAlg;
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;

use super::{AGENT_PATIENCE, AnyAgent, Login, NOT_USED, State, Step, describe, note};
use crate::node::NodeError;
use crate::node::ssh::connect::Client;
use crate::node::ssh::route::Agent;

impl Login<'_> {
    pub(super) async fn agent(
        &self,
        handle: &mut Handle<Client>,
        state: &mut State,
    ) -> Result<Option<AnyAgent>, NodeError> {
        let socket = match &self.route.agent {
            Agent::None => return Ok(None),
            Agent::Socket(socket) => socket,
            Agent::Usual => match &self.options.agent {
                Some(socket) => socket,
                None => return Ok(None),
            },
        };
        let opening = async {
            let mut agent = AgentClient::connect_uds(socket).await?.dynamic();
            if let Some(binding) = handle.agent_session_binding() {
                // Agents that do not know the extension answer with a failure and go on.
                let _ = agent.bind_session(binding, false).await;
            }
            Ok::<_, russh::keys::Error>(agent)
        };
        match tokio::time::timeout(self.options.connect_timeout, opening).await {
            Ok(Ok(agent)) => return Ok(Some(agent)),
            Ok(Err(e)) => state.tried.push(format!("the agent ({NOT_USED}, not reached: {e})")),
            Err(_) => state.tried.push(format!("the agent ({NOT_USED}, no answer)")),
        }
        Ok(None)
    }

    pub(super) async fn held(
        &self,
        agent: &mut Option<AnyAgent>,
        state: &mut State,
    ) -> Result<Vec<AgentIdentity>, NodeError> {
        let Some(asked) = agent else { return Ok(Vec::new()) };
        match tokio::time::timeout(self.options.connect_timeout, asked.request_identities()).await {
            Ok(Ok(keys)) => {
                if keys.is_empty() {
                    state.tried.push(format!("the agent ({NOT_USED}, it holds no key)"));
                }
                return Ok(keys);
            }
            Ok(Err(e)) => state.tried.push(format!("the agent ({NOT_USED}, {e})")),
            Err(_) => state.tried.push(format!("the agent ({NOT_USED}, no answer)")),
        }
        *agent = None;
        Ok(Vec::new())
    }

    pub(super) async fn agent_key(
        &self,
        handle: &mut Handle<Client>,
        identity: AgentIdentity,
        rsa: Option<HashAlg>,
        agent: &mut AnyAgent,
        state: &mut State,
    ) -> Result<Step, NodeError> {
        let certified =
            if matches!(identity, AgentIdentity::Certificate { .. }) { " with a certificate" } else { "" };
        state.tried.push(format!("the agent's {}{certified}", describe(&identity.public_key())));
        state.offered += 1;
        let result = match identity {
            AgentIdentity::PublicKey { key, .. } => {
                let attempt = handle.authenticate_publickey_with(self.user, key, rsa, agent);
                self.bounded(AGENT_PATIENCE, attempt).await?.map_err(|e| e.to_string())
            }
            AgentIdentity::Certificate { certificate, .. } => {
                let attempt = handle.authenticate_certificate_with(self.user, certificate, rsa, agent);
                self.bounded(AGENT_PATIENCE, attempt).await?.map_err(|e| e.to_string())
            }
        };
        match result {
            Ok(result) => self.judge(handle, Ok(result), state),
            Err(_) if handle.is_closed() => Err(self.lost()),
            // The agent would not sign; the next key may do.
            Err(why) => {
                note(state, &why);
                Ok(Step::Out)
            }
        }
    }
}
