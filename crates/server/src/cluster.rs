//! Several processes: where roles reach each other, and the secret by which they know each other.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anser_api::grpc::Secret;
use anser_api::grpc::client::Link;
use anser_api::id::CometName;
use anser_api::settings;
use anser_api::settings::Span;
use tokio::runtime::Handle;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::push_key;

settings! {
    /// What roles in processes of their own have to know of each other. All of them can have the same file.
    pub struct Cluster {
        /// Addresses for gRPC of a comet: goim's `goim.comet.Comet`, and our own. An empty list switches it off.
        comet_bind: Vec<SocketAddr> = vec![([127, 0, 0, 1], 3109).into()],
        /// Addresses for gRPC of logic: goim's `goim.logic.Logic`, and our own. An empty list switches it off.
        logic_bind: Vec<SocketAddr> = vec![([127, 0, 0, 1], 3119).into()],
        /// Addresses for gRPC of a job in a process of its own.
        job_bind: Vec<SocketAddr> = vec![([127, 0, 0, 1], 3129).into()],
        /// Where the job finds the comets, each as "name=grpc://host:port"; logic waits for these after a
        /// start. Not for `anser up`, which has its own.
        comets: Vec<String> = Vec::new(),
        /// Where comets and the job find logic.
        logic: String = "grpc://127.0.0.1:3119".to_owned(),
        /// Where logic finds the job.
        job: String = "grpc://127.0.0.1:3129".to_owned(),
        /// File with the secret that all processes share. Empty: cluster.secret in the data folder, which is
        /// made at the first start.
        secret_file: PathBuf = PathBuf::new(),
        /// Whether goim's services may be called without the secret, as goim's own programs do. Only while
        /// they are bound to loopback.
        goim_without_secret: bool = false,
        /// How long a call between processes may take, unless it waits on purpose. At least 100ms, at most 1m.
        deadline: Span = Span::secs(5),
    }
}

/// The secret's file in the data folder.
const FILE: &str = "cluster.secret";

/// A comet by name and address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: CometName,
    pub(crate) address: String,
}

impl Cluster {
    /// The comets of the list, or what is wrong with it.
    pub(crate) fn members(&self) -> Result<Vec<Member>, String> {
        let mut members: Vec<Member> = Vec::new();
        for entry in &self.comets {
            let parts = entry.split_once('=').filter(|(name, _)| !name.is_empty());
            let Some((name, address)) = parts else {
                return Err(format!("`{entry}` is no comet: write name=grpc://host:port"));
            };
            let name = CometName::parse(name, 4096).map_err(|error| error.to_string())?;
            if members.iter().any(|member| member.name == name) {
                return Err(format!("`{name}` is there twice: give each comet a name of its own"));
            }
            members.push(Member { name, address: address.to_owned() });
        }
        Ok(members)
    }

    /// The secret of the file. That of the data folder is made if it is not there.
    pub(crate) fn secret(&self, data: &Path) -> Result<Secret, Failure> {
        let secrets = if self.secret_file.as_os_str().is_empty() {
            push_key::ensure_file(data, FILE)?
        } else {
            push_key::read(&self.secret_file)?
        };
        let Some(secret) = secrets.first() else {
            return Err(Failure::new(Exit::Config, "there is no cluster secret", "write one into its file"));
        };
        Secret::parse(secret.expose()).map_err(|error| {
            Failure::new(
                Exit::Config,
                format!("the cluster secret cannot be used ({error})"),
                "write another",
            )
        })
    }

    /// The way to a role.
    pub(crate) fn link(&self, address: &str, secret: &Secret) -> Result<Link, Failure> {
        Link::new(address, secret, self.deadline.0, Handle::current()).map_err(|error| {
            Failure::new(Exit::Config, error, "see cluster.comets, cluster.logic, cluster.job")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members() {
        let of = |entries: &[&str]| {
            let comets = entries.iter().map(|entry| (*entry).to_owned()).collect();
            Cluster { comets, ..Cluster::default() }.members()
        };
        let members = of(&["a=grpc://one:3109", "b=grpc://two:3109"]).unwrap();
        assert_eq!((members[0].name.as_str(), &*members[1].address), ("a", "grpc://two:3109"));
        for bad in ["grpc://one:3109", "=grpc://one:3109"] {
            assert!(of(&[bad]).unwrap_err().ends_with("write name=grpc://host:port"), "{bad}");
        }
        assert!(of(&["a=grpc://one:1", "a=grpc://two:1"]).unwrap_err().contains("twice"));
    }

    #[test]
    fn a_secret_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = Cluster::default();
        cluster.secret(folder.path()).unwrap();
        let made = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        cluster.secret(folder.path()).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join(FILE)).unwrap(), made);
        let elsewhere = Cluster { secret_file: folder.path().join("none"), ..cluster };
        assert!(elsewhere.secret(folder.path()).unwrap_err().to_string().contains("cannot be read"));
    }
}
