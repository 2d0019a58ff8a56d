# pragma version 0.4.3
# @title A contract wallet that can refuse payments, or call back into whoever pays it
# @license Apache-2.0

owner: public(address)
refuses: public(bool)
callback: Bytes[4096]
amount: uint256
called_back: public(bool)


@deploy
def __init__():
    self.owner = msg.sender


@external
@payable
def execute(target: address, data: Bytes[4096], amount: uint256):
    """
    @notice Call `target` as this wallet.
    """
    assert msg.sender == self.owner, "wallet: not the owner"
    raw_call(target, data, value=amount)


@external
def hand_over(owner: address):
    """
    @notice Let somebody else act as this wallet.
    """
    assert msg.sender == self.owner, "wallet: not the owner"
    self.owner = owner


@external
def behave(refuses: bool, callback: Bytes[4096]):
    """
    @notice How to take payments: refuse them, and call the payer with `callback` first, if it is not empty.
    """
    self.refuses = refuses
    self.callback = callback


@external
def spend(amount: uint256):
    """
    @notice What to send along with the callback, in wei.
    """
    self.amount = amount


@external
@payable
def __default__():
    assert not self.refuses, "wallet: refused"
    if len(self.callback) != 0:
        self.called_back = raw_call(msg.sender, self.callback, value=self.amount, revert_on_failure=False)
