//! Pressure stall information (Documentation/accounting/psi.rst).
