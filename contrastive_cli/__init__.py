"""clr: learn visual representations from images, prove that they help, and use them."""

__version__ = "0.1.0"
