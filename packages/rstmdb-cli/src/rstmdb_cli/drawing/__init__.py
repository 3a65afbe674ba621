"""Machines as pictures: `model` is what is drawn, `layout` where, the others how."""
