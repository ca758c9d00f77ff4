"""Systems that gradients are measured on, from three parameters to four hundred."""
