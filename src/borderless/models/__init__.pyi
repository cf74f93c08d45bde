from .catalogue import names as names
from .loading import load as load
