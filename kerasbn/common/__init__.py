"""What every part uses: errors, files, records, wording, plotting style, Keras internals."""
