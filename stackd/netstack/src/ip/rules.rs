//! Policy routing: which table a packet's route is looked up in (`ip rule`), by mark, source, destination and interface.

use super::{IpLayer, RouteQuery};
use crate::addr::Prefix;
use crate::route::{Route, RouteError, RouteTable};
use stackd_base::PortId;
use std::net::IpAddr;

/// Linux's `RT_TABLE_MAIN`.
pub const MAIN: u32 = 254;
/// Linux's `RT_TABLE_DEFAULT`.
pub const DEFAULT: u32 = 253;
/// Linux's `RT_TABLE_LOCAL`: this stack's own addresses; it is asked first, always, and holds no routes of operators.
pub const LOCAL: u32 = 255;
/// The priority of the rule that names the main table.
const MAIN_PRIORITY: u32 = 32_766;

/// One rule. What is `None` matches everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Lower is asked first.
    pub priority: u32,
    /// IPv6's, else IPv4's.
    pub v6: bool,
    /// `fwmark MARK/MASK`: of the socket (`SO_MARK`).
    pub fwmark: Option<(u32, u32)>,
    /// The source, where one is chosen already.
    pub from: Option<Prefix>,
    /// The destination.
    pub to: Option<Prefix>,
    /// The interface the socket is bound to.
    pub oif: Option<PortId>,
    /// Where to look.
    pub table: u32,
}

impl Rule {
    fn matches(&self, q: &RouteQuery) -> bool {
        self.v6 == q.dst.is_ipv6()
            && self.fwmark.is_none_or(|(mark, mask)| q.mark & mask == mark & mask)
            && self.from.is_none_or(|p| q.src.is_some_and(|s| p.contains(s)))
            && self.to.is_none_or(|p| p.contains(q.dst))
            && self.oif.is_none_or(|o| q.port == Some(o))
    }
    /// Everything but the priority is the same: what `ip rule del` looks for.
    fn same(&self, other: &Self) -> bool {
        Self { priority: 0, ..*self } == Self { priority: 0, ..*other }
    }
}

impl IpLayer {
    /// Adds a rule. False: the same one exists.
    pub fn add_rule(&mut self, rule: Rule) -> bool {
        if self.rules.contains(&rule) {
            return false;
        }
        let at = self.rules.partition_point(|r| r.priority <= rule.priority);
        self.rules.insert(at, rule);
        self.changed();
        true
    }

    /// The priority of a rule that names none: before every other (Linux's `fib_default_rule_pref`).
    pub fn next_rule_priority(&self, v6: bool) -> u32 {
        let first = self.rules.iter().find(|r| r.v6 == v6).map_or(MAIN_PRIORITY, |r| r.priority);
        first.saturating_sub(1).max(1)
    }

    /// Takes a rule away: the first that says the same; with a priority of zero whatever its priority. False: there is none.
    pub fn remove_rule(&mut self, rule: &Rule) -> bool {
        let found = |r: &Rule| r.same(rule) && (rule.priority == 0 || r.priority == rule.priority);
        let Some(at) = self.rules.iter().position(found) else { return false };
        self.rules.remove(at);
        self.changed();
        true
    }

    /// The rules of operators, in order. Those of Linux that are always there (local, main, default) are not among them.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// A table's routes.
    pub fn table(&self, table: u32) -> Option<&RouteTable> {
        if table == MAIN { Some(self.routes()) } else { self.tables.get(&table) }
    }

    /// The tables that have routes, by number, the main one among them.
    pub fn tables(&self) -> impl Iterator<Item = (u32, &RouteTable)> {
        let others = self.tables.iter().map(|(n, t)| (*n, t));
        others.chain([(MAIN, self.routes())]).filter(|(_, t)| !t.is_empty())
    }

    /// As [`IpLayer::add_route`], in a table.
    ///
    /// # Errors
    /// As [`IpLayer::add_route`]; `Invalid` for the local table.
    pub fn add_route_in(&mut self, table: u32, route: Route, replace: bool) -> Result<(), RouteError> {
        if table == MAIN {
            return self.add_route(route, replace);
        }
        if table == LOCAL || table == 0 || route.port.is_some_and(|p| self.port(p).is_none()) {
            return Err(RouteError::Invalid);
        }
        self.tables.entry(table).or_default().add(route, replace)?;
        self.changed();
        Ok(())
    }

    /// As [`IpLayer::remove_route`], in a table.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove_route_in(
        &mut self,
        table: u32,
        dst: Prefix,
        matches: impl Fn(&Route) -> bool,
    ) -> Result<Route, RouteError> {
        if table == MAIN {
            return self.remove_route(dst, matches);
        }
        let t = self.tables.get_mut(&table).ok_or(RouteError::NotFound)?;
        let gone = t.remove(dst, matches)?;
        if t.is_empty() {
            self.tables.remove(&table);
        }
        self.changed();
        Ok(gone)
    }

    /// The route that a packet takes, and the table it is in (`ip route get`). What may be decided besides is [`IpLayer::route_by`]'s.
    pub fn explain(&self, q: &RouteQuery) -> Option<(u32, &Route)> {
        let up = |p: PortId| self.port(p).is_some_and(|p| p.up);
        self.lookup_with_table(q, &|r| r.port.is_none_or(|p| up(p) && q.port.is_none_or(|want| want == p)))
    }

    /// The route by the rules, the main table and the default table, in this order.
    pub(super) fn lookup_by_rules(&self, q: &RouteQuery, usable: &dyn Fn(&Route) -> bool) -> Option<&Route> {
        self.lookup_with_table(q, usable).map(|(_, r)| r)
    }

    fn lookup_with_table(&self, q: &RouteQuery, usable: &dyn Fn(&Route) -> bool) -> Option<(u32, &Route)> {
        let dst: IpAddr = q.dst;
        let mut tables = self.rules.iter().filter(|r| r.matches(q)).map(|r| (r.priority, r.table));
        let (before, after): (Vec<_>, Vec<_>) = if self.rules.is_empty() {
            (Vec::new(), Vec::new())
        } else {
            tables.by_ref().partition(|(priority, _)| *priority < MAIN_PRIORITY)
        };
        let in_table = |n: u32| self.table(n)?.lookup(dst, usable).map(|r| (n, r));
        before
            .into_iter()
            .find_map(|(_, n)| in_table(n))
            .or_else(|| in_table(MAIN))
            .or_else(|| after.into_iter().find_map(|(_, n)| in_table(n)))
            .or_else(|| in_table(DEFAULT))
    }
}
