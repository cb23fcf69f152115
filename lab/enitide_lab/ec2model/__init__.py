"""One strict EC2: the rules as a pure model with an injected clock. Start with `EC2Model`."""

from enitide_lab.ec2model.elastic import ElasticVerbs
from enitide_lab.ec2model.errors import ModelError
from enitide_lab.ec2model.faults import Effect, Fault
from enitide_lab.ec2model.physics import AnswerLost, Physics


class EC2Model(ElasticVerbs):
    """Every verb as a plain method: typed arguments, frozen results, `ModelError` for what EC2 refuses."""


__all__ = ["AnswerLost", "EC2Model", "Effect", "Fault", "ModelError", "Physics"]
