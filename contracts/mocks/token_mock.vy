# pragma version 0.4.3
# @title A token that everybody may mint, and that can take fees, refuse, ban accounts and call back
# @license Apache-2.0

from ethereum.ercs import IERC20

implements: IERC20

balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
totalSupply: public(uint256)
decimals: public(constant(uint8)) = 6

fee: uint256  # of every transfer, in units
refuses: bool
banned: HashMap[address, bool]
# Called by every transfer, before it; `called_back` counts the calls that came through.
hook: address
hook_data: Bytes[4096]
called_back: public(uint256)


@external
def mint(account: address, amount: uint256):
    """
    @notice Give `amount` to an account.
    """
    self.balanceOf[account] += amount
    self.totalSupply += amount


@external
def behave(fee: uint256, refuses: bool):
    """
    @notice How every transfer goes: what it costs the recipient, and whether it returns false without moving anything.
    """
    self.fee = fee
    self.refuses = refuses


@external
def ban(account: address, banned: bool):
    """
    @notice Revert every transfer from or to an account, or not.
    """
    self.banned[account] = banned


@external
def call_back(target: address, data: Bytes[4096]):
    """
    @notice Call `target` in every transfer; the zero address ends this.
    """
    self.hook = target
    self.hook_data = data


@external
def approve(spender: address, amount: uint256) -> bool:
    """
    @notice EIP-20.
    """
    self.allowance[msg.sender][spender] = amount
    log IERC20.Approval(owner=msg.sender, spender=spender, value=amount)
    return True


@external
def transfer(to: address, amount: uint256) -> bool:
    """
    @notice EIP-20, but as told.
    """
    return self._move(msg.sender, to, amount)


@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    """
    @notice EIP-20, but as told.
    """
    self.allowance[owner][msg.sender] -= amount
    return self._move(owner, to, amount)


@internal
def _move(owner: address, to: address, amount: uint256) -> bool:
    assert not (self.banned[owner] or self.banned[to]), "token: account banned"
    if self.hook != empty(address):
        called: bool = raw_call(self.hook, self.hook_data, revert_on_failure=False)
        self.called_back += convert(called, uint256)
    if self.refuses:
        return False
    self.balanceOf[owner] -= amount
    self.balanceOf[to] += amount - self.fee
    log IERC20.Transfer(sender=owner, receiver=to, value=amount - self.fee)
    return True
