//! What changes when the configuration is read again.
//!
//! Only what changed is touched. A service whose port leads where it led before keeps its road and
//! its proof, whatever it is called. One that is gone gives its port back, and nothing else: streams
//! that are open through it go on. A new one begins as any does, once a port that it shares with a
//! leaving one is free.

use alloc::vec::Vec;
use core::time::Duration;

use super::Link;
use super::road::Road;
use crate::service::Service;
use crate::time::Time;

impl Link {
    pub(super) fn replan(&mut self, services: Vec<Service>, heartbeat: Duration, now: Time) {
        let ports = |link: &Self| -> Vec<Option<u16>> {
            let mut ports: Vec<_> = link.services().map(|(_, service)| service.port).collect();
            ports.sort_unstable();
            ports
        };
        let before = (ports(self), self.plan.heartbeat);
        let offered = services.into_iter().map(|service| self.offer(service, now)).collect();
        self.offered = offered;
        for (number, road) in &mut self.roads {
            road.leaving |= !self.offered.contains(number);
        }
        self.plan.heartbeat = heartbeat;
        if before != (ports(self), heartbeat) {
            self.revision = self.revision.wrapping_add(1);
        }
    }

    /// The number of this service: the one that it had, or a new one.
    fn offer(&mut self, service: Service, now: Time) -> usize {
        let same = |road: &Road| {
            let is = &road.service;
            // What has no port is asked for by its name.
            !road.leaving
                && (is.port.is_some() || is.name == service.name)
                && (&is.bind, is.port, &is.target) == (&service.bind, service.port, &service.target)
        };
        if let Some((number, road)) = self.roads.iter_mut().find(|(_, road)| same(road)) {
            road.adopt(service, now);
            return *number;
        }
        let number = self.next_number;
        self.next_number += 1;
        let mut road = Road::down(service, now);
        if self.serving.is_some() {
            road.open_at(None, now);
        }
        self.roads.insert(number, road);
        number
    }

    /// Forgets the services that are offered no more, once nothing of theirs is open or under way.
    pub(super) fn clear_roads(&mut self) {
        let work = self.serving.as_ref().and_then(|conn| conn.work.as_ref());
        let busy = work.map(|work| work.service);
        self.roads.retain(|number, road| !road.leaving || road.is_open() || busy == Some(*number));
    }
}
