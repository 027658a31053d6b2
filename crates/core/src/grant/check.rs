//! What a single grant must be to make sense where it stands.

use core::fmt;

use super::{Grant, Reach};

/// Where a grant stands: the same file means something else at a gateway than at home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// In the `grants.toml` of a gateway.
    Gateway,
    /// In that of a home.
    Home,
}

/// What is wrong with a grant, and what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantError {
    /// At a gateway: `services` for a key that can be no home.
    ServicesOfAClient,
    /// At a gateway: neither `homes` nor `reach`.
    NothingAtTheGateway,
    /// At home: `homes`.
    HomesAtHome,
    /// At home: `reach`.
    ReachAtHome,
    /// At home: `from`.
    FromAtHome,
    /// At a gateway: `ports` for a key that can be no home.
    PortsOfAClient,
    /// At home: `ports`.
    PortsAtHome,
    /// `services` is there, and has none.
    NoServices,
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServicesOfAClient => {
                "`services` stands without `homes`: a gateway cannot see which service a client \
                 asks for; take it out here, and write it into the home's own grants"
            }
            Self::NothingAtTheGateway => {
                "the key may do nothing: write into `homes` which homes it may be, or into \
                 `reach` which homes it may reach"
            }
            Self::HomesAtHome => {
                "`homes` belongs into the gateway's grants: who may be this home is not for it to \
                 say; take it out"
            }
            Self::ReachAtHome => {
                "`reach` belongs into the gateway's grants; take it out, and write into \
                 `services` what the key may use here"
            }
            Self::FromAtHome => {
                "`from` belongs into the gateway's grants: a home does not see where a client \
                 comes from; take it out"
            }
            Self::PortsOfAClient => {
                "`ports` stands without `homes`: only a home has ports at the gateway; take it out"
            }
            Self::PortsAtHome => {
                "`ports` belongs into the gateway's grants; take it out: which service has a port \
                 there stands in agent.toml"
            }
            Self::NoServices => {
                "`services` is empty, so it allows none; take it out to allow all, or set \
                 `revoked = true`"
            }
        })
    }
}

impl core::error::Error for GrantError {}

impl Grant {
    /// Whether it makes sense there. One that does not is to be passed over, and told of: it says
    /// something that would not be kept.
    pub fn check(&self, seat: Seat) -> Result<(), GrantError> {
        let has_reach = self.reach != Reach::NONE;
        match seat {
            _ if self.services.as_ref().is_some_and(|services| services.is_empty()) => {
                Err(GrantError::NoServices)
            }
            Seat::Gateway if self.services.is_some() && self.homes.is_empty() => {
                Err(GrantError::ServicesOfAClient)
            }
            Seat::Gateway if !self.ports.is_empty() && self.homes.is_empty() => {
                Err(GrantError::PortsOfAClient)
            }
            Seat::Gateway if self.homes.is_empty() && !has_reach && !self.revoked => {
                Err(GrantError::NothingAtTheGateway)
            }
            Seat::Home if !self.homes.is_empty() => Err(GrantError::HomesAtHome),
            Seat::Home if has_reach => Err(GrantError::ReachAtHome),
            Seat::Home if !self.ports.is_empty() => Err(GrantError::PortsAtHome),
            Seat::Home if !self.from.is_empty() => Err(GrantError::FromAtHome),
            Seat::Gateway | Seat::Home => Ok(()),
        }
    }
}
