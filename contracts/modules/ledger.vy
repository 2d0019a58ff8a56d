# pragma version 0.4.3
# @title Deposits, and pull payments
# @license Apache-2.0
# @notice Who is owed what of which token; the token at the zero address is ether. A contract that moves money takes it here, credits accounts
#         here, and never pays on its own account, so that no recipient and no token can stop a transition.

from ethereum.ercs import IERC20

from interfaces import ILedger
from modules import checks

implements: ILedger

# Where burnt tokens go: many refuse the zero address. Nobody has its key.
BURNT: constant(address) = 0x000000000000000000000000000000000000dEaD

_credits: HashMap[address, HashMap[address, uint256]]


@external
@view
def credit(token: address, account: address) -> uint256:
    """
    @notice What `account` can withdraw of a token.
    """
    return self._credits[token][account]


@external
@view
def burnable(token: address) -> uint256:
    """
    @notice What `burn` would destroy.
    """
    return self._credits[token][BURNT]


@external
@nonreentrant
def withdraw(token: address) -> uint256:
    """
    @notice Pay the caller all that it is owed of a token.
    @dev A caller that refuses the payment, or to whom the token refuses it, keeps its credit.
    @return The amount.
    @custom:security The credit is erased before the call, and the call forwards all gas for the sake of contract wallets.
    """
    amount: uint256 = self._pay(token, msg.sender)
    log ILedger.Withdrawn(token=token, account=msg.sender, amount=amount)
    return amount


@external
@nonreentrant
def burn(token: address) -> uint256:
    """
    @notice Destroy what was slashed and belongs to nobody. Anyone may call.
    @return The amount.
    """
    amount: uint256 = self._pay(token, BURNT)
    log ILedger.Burnt(token=token, amount=amount)
    return amount


@internal
def _pay(token: address, account: address) -> uint256:
    amount: uint256 = self._credits[token][account]
    if amount == 0:
        checks.refuse("ledger: nothing to withdraw")
    self._credits[token][account] = 0
    if token == empty(address):
        accepted: bool = raw_call(account, b"", value=amount, revert_on_failure=False)
        assert accepted, "ledger: payment refused"
    else:
        # Tokens that return nothing count as paid; they revert where they refuse.
        assert extcall IERC20(token).transfer(account, amount, default_return_value=True), "ledger: payment refused"
    return amount


@internal
@payable
def _take(token: address, amount: uint256):
    """
    @notice Receive exactly `amount` from the caller: as value, or from its allowance.
    @custom:security A token that delivers another amount than it is told, because it takes a fee, is refused. A hook of the token must not
                     reenter: callers are nonreentrant.
    """
    if token == empty(address):
        assert msg.value == amount, "ledger: wrong value"
        return
    assert msg.value == 0, "ledger: value besides a token"
    before: uint256 = staticcall IERC20(token).balanceOf(self)
    assert extcall IERC20(token).transferFrom(msg.sender, self, amount, default_return_value=True), "ledger: deposit refused"
    assert staticcall IERC20(token).balanceOf(self) - before == amount, "ledger: the token delivers another amount"


@internal
def _credit(token: address, account: address, amount: uint256):
    """
    @notice Owe `account` another `amount`, which the contract already holds.
    """
    self._credits[token][account] += amount


@internal
def _credit_nobody(token: address, amount: uint256):
    """
    @notice Leave `amount` to be burnt.
    """
    self._credits[token][BURNT] += amount
