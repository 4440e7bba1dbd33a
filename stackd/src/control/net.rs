//! NetService and QdiscService: checks what can be checked without a stack, then asks the shards.

use std::sync::Arc;

use stackd_proto::{
    StatusError,
    v1::{self, net_service_server::NetService, qdisc_service_server::QdiscService},
};
use tonic::{Request, Response, Status};

use super::{
    backend::{Backend, Command},
    links::Links,
    merge,
};

#[derive(Debug)]
pub(super) struct Service {
    backend: Backend,
    links: Arc<Links>,
}

impl Service {
    pub(super) fn new(backend: Backend, links: Arc<Links>) -> Self {
        Self { backend, links }
    }
}

/// Bits of an address of this length; `empty` says whether none is fine.
fn address_bits(argument: &str, bytes: &[u8], empty: bool) -> Result<u32, StatusError> {
    match bytes.len() {
        4 => Ok(32),
        16 => Ok(128),
        0 if empty => Ok(0),
        n => Err(StatusError::invalid(argument, format!("{n} bytes"), "not the length of an address")
            .remedy("4 bytes (IPv4) or 16 bytes (IPv6)")),
    }
}

fn check_prefix(argument: &str, bytes: &[u8], prefix_len: u32) -> Result<(), StatusError> {
    let bits = address_bits(argument, bytes, false)?;
    if prefix_len > bits {
        return Err(StatusError::invalid(argument, prefix_len, "the prefix is longer than the address")
            .remedy(format!("0..={bits}")));
    }
    Ok(())
}

fn check_hardware(argument: &str, bytes: &[u8], empty: bool) -> Result<(), StatusError> {
    match bytes.len() {
        6 => Ok(()),
        0 if empty => Ok(()),
        n => {
            Err(StatusError::invalid(argument, format!("{n} bytes"), "not the length of a MAC address")
                .remedy("6 bytes"))
        }
    }
}

fn check_mode(mode: v1::ModifyMode) -> Result<(), StatusError> {
    if mode == v1::ModifyMode::Unspecified {
        return Err(StatusError::invalid("mode", "unspecified", "no mode given")
            .remedy("ADD, REPLACE, CHANGE, APPEND or DELETE"));
    }
    Ok(())
}

fn required<T>(argument: &str, value: Option<T>) -> Result<T, StatusError> {
    value.ok_or_else(|| StatusError::invalid(argument, "", "missing"))
}

fn check_name(name: &str) -> Result<(), StatusError> {
    // IFNAMSIZ of Linux, so that every tool can name it.
    if name.is_empty() || name.len() > 15 || name.chars().any(|c| c == '/' || c.is_whitespace() || c.is_control()) {
        return Err(StatusError::invalid("name", name, "not a valid ifname")
            .remedy("1 to 15 characters without blanks and slashes"));
    }
    Ok(())
}

/// What takes a change back. A replacement has none: what it replaced is not known here.
fn inverse(mode: v1::ModifyMode) -> Option<v1::ModifyMode> {
    use v1::ModifyMode;
    match mode {
        ModifyMode::Add | ModifyMode::Append => Some(ModifyMode::Delete),
        ModifyMode::Delete => Some(ModifyMode::Add),
        ModifyMode::Replace | ModifyMode::Change | ModifyMode::Unspecified => None,
    }
}

/// `ip link set` with the values that the link had.
fn link_back(request: &v1::SetLinkRequest, link: v1::Link) -> v1::SetLinkRequest {
    const UP: u32 = 0x1;
    let v1::SetLinkRequest { name, up, mtu, hardware_address, tx_queue_len: _, promiscuous: _, .. } = request.clone();
    v1::SetLinkRequest {
        name,
        up: up.map(|_| link.flags & UP != 0),
        mtu: mtu.map(|_| link.mtu),
        hardware_address: hardware_address.map(|_| link.hardware_address),
        ..Default::default()
    }
}

#[tonic::async_trait]
impl NetService for Service {
    async fn list_links(
        &self,
        request: Request<v1::ListLinksRequest>,
    ) -> Result<Response<v1::ListLinksResponse>, Status> {
        let request = request.into_inner();
        let answers = self.backend.ask_all(|reply| Command::LinkList(request.clone(), reply)).await?;
        Ok(Response::new(merge::links(answers)))
    }

    async fn set_link(&self, request: Request<v1::SetLinkRequest>) -> Result<Response<v1::SetLinkResponse>, Status> {
        let request = request.into_inner();
        if let Some(address) = &request.hardware_address {
            check_hardware("address", address, false)?;
        }
        let before = v1::ListLinksRequest { name: request.name.clone() };
        let before = self.backend.ask(|reply| Command::LinkList(before, reply)).await?.links.into_iter().next();
        let undo = before.map(|link| link_back(&request, link));
        self.backend
            .change(
                |reply| Command::LinkSet(request.clone(), reply),
                |reply| undo.clone().map(|undo| Command::LinkSet(undo, reply)),
            )
            .await?;
        Ok(Response::new(v1::SetLinkResponse {}))
    }

    async fn add_link(&self, request: Request<v1::AddLinkRequest>) -> Result<Response<v1::AddLinkResponse>, Status> {
        let request = request.into_inner();
        check_name(&request.name)?;
        check_hardware("address", request.hardware_address.as_deref().unwrap_or_default(), true)?;
        Ok(Response::new(self.links.add(request).await?))
    }

    async fn delete_link(
        &self,
        request: Request<v1::DeleteLinkRequest>,
    ) -> Result<Response<v1::DeleteLinkResponse>, Status> {
        Ok(Response::new(self.links.delete(request.into_inner()).await?))
    }

    async fn list_addresses(
        &self,
        request: Request<v1::ListAddressesRequest>,
    ) -> Result<Response<v1::ListAddressesResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(self.backend.ask(|reply| Command::AddressList(request, reply)).await?))
    }

    async fn modify_address(
        &self,
        request: Request<v1::ModifyAddressRequest>,
    ) -> Result<Response<v1::ModifyAddressResponse>, Status> {
        let request = request.into_inner();
        check_mode(request.mode())?;
        let address = required("address", request.address.as_ref())?;
        check_prefix("local", &address.address, address.prefix_len)?;
        address_bits("broadcast", &address.broadcast, true)?;
        address_bits("peer", &address.peer, true)?;
        let undo =
            inverse(request.mode()).map(|mode| v1::ModifyAddressRequest { mode: mode as i32, ..request.clone() });
        self.backend
            .change(
                |reply| Command::AddressModify(request.clone(), reply),
                |reply| undo.clone().map(|undo| Command::AddressModify(undo, reply)),
            )
            .await?;
        Ok(Response::new(v1::ModifyAddressResponse {}))
    }

    async fn list_routes(
        &self,
        request: Request<v1::ListRoutesRequest>,
    ) -> Result<Response<v1::ListRoutesResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(self.backend.ask(|reply| Command::RouteList(request, reply)).await?))
    }

    async fn modify_route(
        &self,
        request: Request<v1::ModifyRouteRequest>,
    ) -> Result<Response<v1::ModifyRouteResponse>, Status> {
        let request = request.into_inner();
        check_mode(request.mode())?;
        let route = required("route", request.route.as_ref())?;
        check_prefix("to", &route.destination, route.prefix_len)?;
        address_bits("via", &route.gateway, true)?;
        address_bits("src", &route.preferred_source, true)?;
        let undo = inverse(request.mode()).map(|mode| v1::ModifyRouteRequest { mode: mode as i32, ..request.clone() });
        self.backend
            .change(
                |reply| Command::RouteModify(request.clone(), reply),
                |reply| undo.clone().map(|undo| Command::RouteModify(undo, reply)),
            )
            .await?;
        Ok(Response::new(v1::ModifyRouteResponse {}))
    }

    async fn get_route(&self, request: Request<v1::GetRouteRequest>) -> Result<Response<v1::GetRouteResponse>, Status> {
        let request = request.into_inner();
        address_bits("to", &request.destination, false)?;
        address_bits("from", &request.source, true)?;
        Ok(Response::new(self.backend.ask(|reply| Command::RouteGet(request, reply)).await?))
    }

    async fn list_neighbours(
        &self,
        request: Request<v1::ListNeighboursRequest>,
    ) -> Result<Response<v1::ListNeighboursResponse>, Status> {
        let request = request.into_inner();
        let answers = self.backend.ask_all(|reply| Command::NeighbourList(request.clone(), reply)).await?;
        Ok(Response::new(merge::neighbours(answers)))
    }

    async fn modify_neighbour(
        &self,
        request: Request<v1::ModifyNeighbourRequest>,
    ) -> Result<Response<v1::ModifyNeighbourResponse>, Status> {
        let request = request.into_inner();
        check_mode(request.mode())?;
        let neighbour = required("neighbour", request.neighbour.as_ref())?;
        address_bits("to", &neighbour.address, false)?;
        check_hardware("lladdr", &neighbour.hardware_address, request.mode() == v1::ModifyMode::Delete)?;
        let undo =
            inverse(request.mode()).map(|mode| v1::ModifyNeighbourRequest { mode: mode as i32, ..request.clone() });
        self.backend
            .change(
                |reply| Command::NeighbourModify(request.clone(), reply),
                |reply| undo.clone().map(|undo| Command::NeighbourModify(undo, reply)),
            )
            .await?;
        Ok(Response::new(v1::ModifyNeighbourResponse {}))
    }

    async fn list_rules(
        &self,
        request: Request<v1::ListRulesRequest>,
    ) -> Result<Response<v1::ListRulesResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(self.backend.ask(|reply| Command::RuleList(request, reply)).await?))
    }

    async fn list_groups(
        &self,
        request: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        let request = request.into_inner();
        let answers = self.backend.ask_all(|reply| Command::GroupList(request.clone(), reply)).await?;
        Ok(Response::new(merge::groups(answers)))
    }

    async fn modify_rule(
        &self,
        request: Request<v1::ModifyRuleRequest>,
    ) -> Result<Response<v1::ModifyRuleResponse>, Status> {
        let request = request.into_inner();
        check_mode(request.mode())?;
        let rule = required("rule", request.rule.as_ref())?;
        address_bits("from", &rule.from, true)?;
        address_bits("to", &rule.to, true)?;
        let undo = inverse(request.mode()).map(|mode| v1::ModifyRuleRequest { mode: mode as i32, ..request.clone() });
        self.backend
            .change(
                |reply| Command::RuleModify(request.clone(), reply),
                |reply| undo.clone().map(|undo| Command::RuleModify(undo, reply)),
            )
            .await?;
        Ok(Response::new(v1::ModifyRuleResponse {}))
    }
}

#[tonic::async_trait]
impl QdiscService for Service {
    async fn list(&self, request: Request<v1::QdiscListRequest>) -> Result<Response<v1::QdiscListResponse>, Status> {
        let request = request.into_inner();
        let answers = self.backend.ask_all(|reply| Command::QdiscList(request.clone(), reply)).await?;
        Ok(Response::new(merge::qdiscs(answers)))
    }

    async fn modify(
        &self,
        request: Request<v1::QdiscModifyRequest>,
    ) -> Result<Response<v1::QdiscModifyResponse>, Status> {
        let request = request.into_inner();
        match request.verb() {
            v1::QdiscVerb::Unspecified => {
                return Err(StatusError::invalid("verb", "unspecified", "no verb given")
                    .remedy("ADD, REPLACE, CHANGE or DELETE")
                    .into());
            }
            v1::QdiscVerb::Delete => {}
            v1::QdiscVerb::Add | v1::QdiscVerb::Replace | v1::QdiscVerb::Change => {
                required("kind", request.options.as_ref().and_then(|o| o.kind.as_ref()))?;
            }
        }
        let before = v1::QdiscListRequest { device: request.device.clone() };
        let before = self.backend.ask(|reply| Command::QdiscList(before, reply)).await?.qdiscs.into_iter().next();
        let undo = before.map(|qdisc| v1::QdiscModifyRequest {
            verb: v1::QdiscVerb::Replace as i32,
            device: qdisc.device,
            handle: qdisc.handle,
            options: qdisc.options,
        });
        let answers = self
            .backend
            .change(
                |reply| Command::QdiscModify(request.clone(), reply),
                |reply| undo.clone().map(|undo| Command::QdiscModify(undo, reply)),
            )
            .await?;
        let sum = answers.iter().fold(v1::QdiscModifyResponse::default(), |sum, a| v1::QdiscModifyResponse {
            packets_kept: sum.packets_kept + a.packets_kept,
            packets_dropped: sum.packets_dropped + a.packets_dropped,
        });
        Ok(Response::new(sum))
    }
}
