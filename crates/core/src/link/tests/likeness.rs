//! What kind of action this is, for tests that count them.

use crate::link::Action;

pub fn is_knock(action: &Action) -> bool {
    *action == Action::Knock
}

pub fn is_dial(action: &Action) -> bool {
    matches!(action, Action::Dial(_))
}

pub fn is_proof(action: &Action) -> bool {
    matches!(action, Action::Prove(..))
}

pub fn is_forward(action: &Action) -> bool {
    matches!(action, Action::Forward(..))
}

pub fn is_release(action: &Action) -> bool {
    matches!(action, Action::Release(..))
}

pub fn is_look(action: &Action) -> bool {
    matches!(action, Action::Look(..))
}

pub fn is_survey(action: &Action) -> bool {
    matches!(action, Action::Survey(..))
}

pub fn is_withdrawal(action: &Action) -> bool {
    matches!(action, Action::Withdraw(..))
}
