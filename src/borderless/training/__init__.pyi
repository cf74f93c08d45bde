from .loop import fit as fit
from .objective import Classification as Classification
from .objective import Objective as Objective
from .objective import Score as Score
from .objective import evaluate as evaluate
from .recipe import Recipe as Recipe
from .state import Epoch as Epoch
