//! Instances: the source databases, checked before anything is saved.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::json;
use strongroom_catalog::InstanceFacts;
use strongroom_core::backup::InstanceRef;
use strongroom_core::engine::{CancelToken, EngineKind, Probe, Source, TlsMode};
use strongroom_core::id::{InstanceId, LineageId, NodeId};
use strongroom_core::instance::{Instance, InstanceState};
use strongroom_core::size::ByteSize;
use strongroom_core::tag::{Tags, TagsWanted};
use strongroom_core::text::InstanceName;
use strongroom_core::{Error, ErrorKind, Result};

use crate::endpoint_policy::check_endpoint;
use crate::identity::{Action, Scope};
use crate::parts::Service;

/// A wish to register, fields valid by themselves.
#[derive(Debug, Clone)]
pub struct NewInstance {
    pub name: InstanceName,
    pub engine: EngineKind,
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: SecretString,
    pub tls: TlsMode,
    pub ca_pem: Option<String>,
    pub allow_md5: bool,
}

/// What came of registering. Without an instance, nothing was saved.
#[derive(Debug, Clone)]
pub struct Added {
    pub instance: Option<Instance>,
    pub probe: Probe,
}

/// Which part of a list by places is wanted. An id is a text of any shape.
#[derive(Debug, Clone, Default)]
pub struct InstancesWanted {
    pub id: Option<String>,
    pub name: Option<NameWanted>,
    pub engine: Option<EngineKind>,
    pub tags: TagsWanted,
    /// Of a sort that no instance here ever is: the list is empty.
    pub is_of_no_sort: bool,
    pub offset: u64,
    pub limit: u64,
}

/// How a name is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameWanted {
    Whole(String),
    Part(String),
}

impl InstancesWanted {
    fn admits(&self, instance: &Instance, tags: &Tags) -> bool {
        let name = instance.name.as_str();
        let is_named = match &self.name {
            None => true,
            Some(NameWanted::Whole(whole)) => name == whole,
            Some(NameWanted::Part(part)) => name.contains(part.as_str()),
        };
        is_named
            && !self.is_of_no_sort
            && self.id.as_ref().is_none_or(|id| id == instance.id.as_str())
            && self.engine.is_none_or(|engine| engine == instance.engine)
            && self.tags.admits(tags)
    }
}

/// An instance with what is known about it.
#[derive(Debug, Clone)]
pub struct ListedInstance {
    pub instance: Instance,
    pub facts: InstanceFacts,
    pub tags: Tags,
}

/// A part of a list of instances, and the length of the list.
#[derive(Debug, Clone)]
pub struct InstanceSlice {
    pub rows: Vec<ListedInstance>,
    pub total: u64,
    /// What the backups of the one that was asked for by its id cost.
    pub stored_bytes: Option<ByteSize>,
}

impl Service {
    /// Checks the source; saves it when nothing is missing.
    pub async fn instance_add(&self, scope: &Scope, new: NewInstance) -> Result<Added> {
        scope.require(Action::Operate)?;
        self.refuse_taken_name(scope, &new.name).await?;
        let source = Source {
            host: new.host,
            port: new.port,
            user: new.user,
            password: new.password,
            tls: new.tls,
            ca_pem: new.ca_pem,
            allow_md5: new.allow_md5,
            networks: self.parts().settings.source_networks.clone(),
        };
        let (probe, source) = self.probe(new.engine, source).await?;
        let identity = match &probe.identity {
            Some(identity) if probe.passed() => identity.clone(),
            _ => return Ok(Added { instance: None, probe }),
        };
        let (raw, now) = (self.uuid(), self.now());
        let instance = Instance {
            id: InstanceId::issue(raw, new.engine),
            node_id: NodeId::issue(self.uuid(), new.engine),
            project_id: scope.project().clone(),
            name: new.name,
            engine: new.engine,
            version: identity.version,
            system_identifier: identity.system_identifier,
            state: InstanceState::Ready,
            host: source.host,
            port: source.port,
            user: source.user,
            tls: source.tls,
            ca_pem: source.ca_pem,
            allow_md5: source.allow_md5,
            lineage_id: LineageId::issue(raw),
            created: now,
            updated: now,
        };
        let detail = json!({ "name": instance.name.as_str(), "host": instance.host, "port": instance.port });
        let audit = self.audit(scope, "instance.add", instance.id.as_str(), detail);
        self.catalog().instance_admit(&instance, &source.password, &audit).await?;
        Ok(Added { instance: Some(instance), probe })
    }

    /// The database decides in the end; this spares the source a check that would be for nothing.
    async fn refuse_taken_name(&self, scope: &Scope, name: &InstanceName) -> Result<()> {
        let wanted = InstanceRef::Any(name.as_str().to_owned());
        match self.catalog().instance_find(scope.project(), &wanted).await? {
            None => Ok(()),
            Some(_) => Err(Error::new(
                ErrorKind::InstanceNameTaken,
                format!("An instance is called {name} already; nothing was saved."),
            )
            .with_hint("choose another name, or remove the other instance first")),
        }
    }

    async fn probe(&self, engine: EngineKind, source: Source) -> Result<(Probe, Source)> {
        let engine = self.parts().engines.get(engine)?.clone();
        self.blocking(move |_| {
            check_endpoint(&source.host, source.port, &source.networks)?;
            Ok((engine.probe(&source, &CancelToken::new())?, source))
        })
        .await
    }

    pub async fn instance_list(&self, scope: &Scope) -> Result<Vec<Instance>> {
        scope.require(Action::Read)?;
        self.catalog().instance_list(scope.project()).await
    }

    /// A part of the list of instances by its place, oldest first.
    pub async fn instance_slice(&self, scope: &Scope, wanted: &InstancesWanted) -> Result<InstanceSlice> {
        scope.require(Action::Read)?;
        let found = match &wanted.id {
            // Clients ask so again and again while they wait.
            Some(id) => self.instance_of_id(scope, id).await?.into_iter().collect(),
            None => self.catalog().instance_list(scope.project()).await?,
        };
        let asked = found.first().filter(|_| wanted.id.is_some()).map(|instance| &instance.id);
        let mut tags =
            if found.is_empty() { BTreeMap::new() } else { self.tags_of_list(scope, asked).await? };
        let none = Tags::new();
        let admitted = |instance: &Instance| wanted.admits(instance, tags.get(&instance.id).unwrap_or(&none));
        let found: Vec<Instance> = found.into_iter().filter(admitted).collect();
        let total = found.len() as u64;
        let place = usize::try_from(wanted.offset).unwrap_or(usize::MAX);
        let rows = usize::try_from(wanted.limit).unwrap_or(usize::MAX);
        let page: Vec<Instance> = found.into_iter().skip(place).take(rows).collect();
        let only = page.first().filter(|_| wanted.id.is_some()).map(|instance| &instance.id);
        let stored_bytes = match only {
            Some(id) => Some(self.catalog().instance_stored_bytes(scope.project(), id).await?),
            None => None,
        };
        let facts = if page.is_empty() {
            BTreeMap::new()
        } else {
            self.catalog().instance_facts(scope.project(), only).await?
        };
        let listed = |instance: Instance| ListedInstance {
            facts: facts.get(&instance.id).copied().unwrap_or_default(),
            tags: tags.remove(&instance.id).unwrap_or_default(),
            instance,
        };
        Ok(InstanceSlice { rows: page.into_iter().map(listed).collect(), total, stored_bytes })
    }

    /// The registered instance that has exactly this id.
    async fn instance_of_id(&self, scope: &Scope, id: &str) -> Result<Option<Instance>> {
        let Ok(id) = InstanceId::parse(id) else { return Ok(None) };
        let wanted = InstanceRef::Instance(id.as_str().to_owned());
        let found = self.catalog().instance_find(scope.project(), &wanted).await?;
        Ok(found.filter(|instance| instance.id == id))
    }

    /// A registered instance; a retired one is not found.
    pub async fn instance_find(&self, scope: &Scope, wanted: &InstanceRef) -> Result<Instance> {
        scope.require(Action::Read)?;
        self.catalog().instance_find(scope.project(), wanted).await?.ok_or_else(|| {
            Error::new(ErrorKind::InstanceNotFound, "There is no such instance.")
                .with_hint("`strongroom instance list` shows what is registered")
        })
    }

    /// An instance as a filter: a retired one still names its backups.
    pub async fn instance_for_filter(&self, scope: &Scope, text: &str) -> Result<Instance> {
        scope.require(Action::Read)?;
        if let Some(instance) =
            self.catalog().instance_find(scope.project(), &InstanceRef::Any(text.to_owned())).await?
        {
            return Ok(instance);
        }
        self.catalog()
            .instance_find_any(scope.project(), text)
            .await?
            .ok_or_else(|| Error::new(ErrorKind::InstanceNotFound, "There is no such instance."))
    }

    /// An instance by its id or its node's id, of whatever shape, a retired one too.
    pub async fn instance_known(&self, scope: &Scope, id: &str) -> Result<Instance> {
        scope.require(Action::Read)?;
        let found = match InstanceId::parse(id) {
            Ok(id) => self.catalog().instance_find_any(scope.project(), id.as_str()).await?,
            Err(_) => None,
        };
        found.ok_or_else(|| Error::new(ErrorKind::InstanceNotFound, "There is no such instance."))
    }

    /// Looks at the source again and records whether it can be backed up.
    pub async fn instance_check(&self, scope: &Scope, wanted: &InstanceRef) -> Result<Probe> {
        scope.require(Action::Operate)?;
        let instance = self.instance_find(scope, wanted).await?;
        let source = self.source_of(&instance).await?;
        let probe = match self.probe(instance.engine, source).await {
            Ok((probe, _)) => probe,
            Err(error) => {
                if error.kind() == ErrorKind::SourceUnreachable {
                    let (catalog, version) = (self.catalog(), &instance.version);
                    catalog
                        .instance_observe(&instance.id, InstanceState::Unreachable, version, self.now())
                        .await?;
                }
                return Err(error);
            }
        };
        let state = if probe.passed() { InstanceState::Ready } else { InstanceState::Unreachable };
        let version =
            probe.identity.as_ref().map_or(instance.version.as_str(), |identity| identity.version.as_str());
        self.catalog().instance_observe(&instance.id, state, version, self.now()).await?;
        Ok(probe)
    }

    /// Retires an instance: its backups stay listed, restorable and deletable.
    pub async fn instance_remove(&self, scope: &Scope, wanted: &InstanceRef) -> Result<()> {
        scope.require(Action::Operate)?;
        let instance = self.instance_find(scope, wanted).await?;
        let audit = self.audit(scope, "instance.remove", instance.id.as_str(), json!({}));
        self.catalog().instance_retire(scope.project(), &instance.id, &audit, self.now()).await
    }

    pub(crate) async fn source_of(&self, instance: &Instance) -> Result<Source> {
        Ok(Source {
            host: instance.host.clone(),
            port: instance.port,
            user: instance.user.clone(),
            password: self.catalog().instance_password(&instance.id).await?,
            tls: instance.tls,
            ca_pem: instance.ca_pem.clone(),
            allow_md5: instance.allow_md5,
            networks: self.parts().settings.source_networks.clone(),
        })
    }
}
