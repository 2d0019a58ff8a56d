# pragma version 0.4.3
# @title A token that returns nothing, and changes an allowance only from or to zero
# @license Apache-2.0

balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
decimals: public(constant(uint8)) = 6


@external
def mint(account: address, amount: uint256):
    """
    @notice Give `amount` to an account.
    """
    self.balanceOf[account] += amount


@external
def approve(spender: address, amount: uint256):
    """
    @notice EIP-20, but without an answer.
    """
    assert amount == 0 or self.allowance[msg.sender][spender] == 0, "token: allowance not zero"
    self.allowance[msg.sender][spender] = amount


@external
def transfer(to: address, amount: uint256):
    """
    @notice EIP-20, but without an answer.
    """
    self.balanceOf[msg.sender] -= amount
    self.balanceOf[to] += amount


@external
def transferFrom(owner: address, to: address, amount: uint256):
    """
    @notice EIP-20, but without an answer.
    """
    self.allowance[owner][msg.sender] -= amount
    self.balanceOf[owner] -= amount
    self.balanceOf[to] += amount
