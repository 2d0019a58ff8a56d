# pragma version 0.4.3
# @title A game contract that does what it is told
# @license Apache-2.0

from interfaces import IReferee
from interfaces import ITaskRegistry

registry: public(immutable(ITaskRegistry))
referee: public(immutable(address))
numerics_version: public(uint256)

# What the registry told of the last game that was opened.
attempt: public(uint256)
segment: ITaskRegistry.Segment


@deploy
def __init__(registry_: address, referee_: address, bond: uint256, trainer_clock: uint256, challenger_clock: uint256):
    registry = ITaskRegistry(registry_)
    referee = referee_
    self.numerics_version = staticcall IReferee(referee_).numerics_version()


@external
def speak(numerics_version: uint256):
    """
    @notice Which numerics the games are about.
    """
    self.numerics_version = numerics_version


@external
@view
def disputed() -> ITaskRegistry.Segment:
    """
    @notice The segment of the last game that was opened.
    """
    return self.segment


@external
def open(job: uint256, segment: uint256):
    """
    @notice Open a game. Anyone may call.
    """
    self.attempt, self.segment = extcall registry.game_opened(job, segment)


@external
def close(job: uint256, attempt: uint256, segment: uint256):
    """
    @notice End a game in the trainer's favour.
    """
    extcall registry.game_closed(job, attempt, segment)


@external
def convict(job: uint256, attempt: uint256, beneficiary: address):
    """
    @notice End a game against the trainer.
    """
    extcall registry.convict(job, attempt, beneficiary)
