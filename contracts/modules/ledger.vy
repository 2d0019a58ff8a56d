# pragma version 0.4.3
# @title Pull payments
# @license Apache-2.0
# @notice Who is owed what. A contract that moves money credits accounts here and never pays on its own account, so that no
#         recipient can stop a transition.

from interfaces import ILedger

implements: ILedger

_credits: HashMap[address, uint256]


@external
@view
def credit(account: address) -> uint256:
    """
    @notice What `account` can withdraw, in wei.
    """
    return self._credits[account]


@external
@nonreentrant
def withdraw() -> uint256:
    """
    @notice Pay the caller all that it is owed.
    @dev A caller that refuses the payment keeps its credit.
    @return The amount, in wei.
    @custom:security The credit is erased before the call, and the call forwards all gas for the sake of contract wallets.
    """
    amount: uint256 = self._credits[msg.sender]
    assert amount != 0, "ledger: nothing to withdraw"
    self._credits[msg.sender] = 0
    accepted: bool = raw_call(msg.sender, b"", value=amount, revert_on_failure=False)
    assert accepted, "ledger: payment refused"
    log ILedger.Withdrawn(account=msg.sender, amount=amount)
    return amount


@internal
def _credit(account: address, amount: uint256):
    """
    @notice Owe `account` another `amount` wei, which the contract already holds.
    """
    self._credits[account] += amount


@internal
def _burn(amount: uint256):
    """
    @notice Destroy `amount` wei for good: the zero address has no key.
    """
    raw_call(empty(address), b"", value=amount)
