"""What goes over the wire: queries and bodies that are read, answers that are described."""
