from .catalogue import names as names
from .loading import load as load
from .programs import load_program as load_program
