"""All mutants, by name."""

from tests.mutants.catalogue.commands import MUTANTS as COMMANDS
from tests.mutants.catalogue.limits import MUTANTS as LIMITS
from tests.mutants.catalogue.ownership import MUTANTS as OWNERSHIP
from tests.mutants.catalogue.peers import MUTANTS as PEERS
from tests.mutants.catalogue.replay import MUTANTS as REPLAY
from tests.mutants.catalogue.time import MUTANTS as TIME
from tests.mutants.catalogue.waking import MUTANTS as WAKING
from tests.mutants.catalogue.writing import MUTANTS as WRITING
from tests.mutants.mutant import Mutant

ALL = (*OWNERSHIP, *WRITING, *WAKING, *PEERS, *COMMANDS, *REPLAY, *TIME, *LIMITS)
MUTANTS: dict[str, Mutant] = {mutant.name: mutant for mutant in ALL}
